//! The znodes of a run: made before it, deleted after it, many in each multi.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use oxkeeper_wire::client::{MultiResult, Reply};
use oxkeeper_wire::{AclRecord, CreateRequest, DeleteRequest, ErrorCode, MultiOp, OpCode, Request};

use crate::PerfError;
use crate::content::{put_created_path, put_value, slot_path};
use crate::options::PerfOptions;
use crate::plain::PlainClient;

/// Operations in a multi, and bytes of values in it.
const BATCH_OPERATIONS_MAX: u64 = 100;
const BATCH_BYTES_MAX: usize = 100_000;

/// Requests in flight; more are sent when half of them are answered.
const WINDOW: usize = 128;

pub(crate) struct Stage<'a> {
    options: &'a PerfOptions,
    client: PlainClient,
    /// Paths above and including the root that this run has made, the longest last.
    made: Vec<String>,
    /// Some slots were there before: an earlier run was told to keep them.
    found: bool,
    /// Znodes created or deleted, for the progress line.
    done: &'a AtomicU64,
}

impl<'a> Stage<'a> {
    pub(crate) fn open(options: &'a PerfOptions, done: &'a AtomicU64) -> Result<Self, PerfError> {
        let client = PlainClient::connect(&options.servers, options.session_timeout_ms)?;
        Ok(Self {
            options,
            client,
            made: Vec::new(),
            found: false,
            done,
        })
    }

    /// A fresh session: this one sends no pings while the load runs.
    pub(crate) fn renew(&mut self) -> Result<(), PerfError> {
        self.client = PlainClient::connect(&self.options.servers, self.options.session_timeout_ms)?;
        Ok(())
    }

    /// Creates the root with what is above it.
    pub(crate) fn make_root(&mut self) -> Result<(), PerfError> {
        let root = &self.options.root;
        let ends = root
            .match_indices('/')
            .map(|(at, _)| at)
            .skip(1)
            .chain([root.len()]);
        for path in ends.map(|end| &root[..end]) {
            let code = self
                .client
                .call(&Request::Create(create(path, &[])), |reply| reply.err)?;
            match code {
                ErrorCode::OK => self.made.push(path.to_owned()),
                ErrorCode::NODE_EXISTS => {}
                code => return Err(refused("create", path, code)),
            }
        }
        Ok(())
    }

    /// Creates `count` slots, or finds them; their versions.
    pub(crate) fn make_slots(&mut self, count: u64) -> Result<Vec<i32>, PerfError> {
        let mut versions = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        let mut there = Vec::new();
        let step = self.batch();
        let options = self.options;
        let create = |range, client: &mut PlainClient| create_slots(options, range, client);
        self.pipeline(batches(0, count, step), create, |range, reply| {
            match multi_outcome(reply) {
                Ok(()) => {}
                Err(ErrorCode::NODE_EXISTS) => there.push(range),
                Err(code) => {
                    return Err(refused("create", &slot_path(&options.root, range.0), code));
                }
            }
            Ok(range.1 - range.0)
        })?;
        self.found = !there.is_empty();
        self.find_slots(
            there.into_iter().flat_map(|(start, end)| start..end),
            &mut versions,
        )?;
        Ok(versions)
    }

    /// Looks up the versions of slots some of which exist; creates the others.
    fn find_slots(
        &mut self,
        slots: impl Iterator<Item = u64>,
        versions: &mut [i32],
    ) -> Result<(), PerfError> {
        let mut missing = Vec::new();
        let options = self.options;
        let exists = |slot, client: &mut PlainClient| {
            client.send(&Request::Exists {
                path: Some(slot_path(&options.root, slot).into()),
                watch: false,
            });
        };
        self.pipeline(slots, exists, |slot, reply| {
            if reply.err == ErrorCode::NO_NODE {
                missing.push(slot);
                return Ok(0);
            }
            versions[slot as usize] = found_version(options, slot, reply)?;
            Ok(1)
        })?;
        let create =
            |slot, client: &mut PlainClient| create_slots(options, (slot, slot + 1), client);
        self.pipeline(missing.into_iter(), create, |slot, reply| {
            let outcome = multi_outcome(reply);
            outcome
                .map(|()| 1)
                .map_err(|code| refused("create", &slot_path(&options.root, slot), code))
        })
    }

    /// Deletes all that the run has made. Slots that were found stay.
    pub(crate) fn clear(
        &mut self,
        run: u64,
        created: &[(usize, u64)],
        slots: u64,
    ) -> Result<(), PerfError> {
        let root = self.options.root.clone();
        if !self.found {
            self.delete(slots, |path, slot| *path = slot_path(&root, slot))?;
        }
        for &(connection, count) in created {
            self.delete(count, |path, number| {
                put_created_path(path, &root, run, connection, number)
            })?;
        }
        for path in std::mem::take(&mut self.made).into_iter().rev() {
            let code = self
                .client
                .call(&delete_request(&path), |reply| reply.err)?;
            if !matches!(
                code,
                ErrorCode::OK | ErrorCode::NO_NODE | ErrorCode::NOT_EMPTY
            ) {
                return Err(refused("delete", &path, code));
            }
        }
        Ok(())
    }

    fn delete(&mut self, count: u64, name: impl Fn(&mut String, u64)) -> Result<(), PerfError> {
        let mut failed = Vec::new();
        let operation = |number| {
            let mut path = String::new();
            name(&mut path, number);
            DeleteRequest {
                path: Some(Cow::Owned(path)),
                version: -1,
            }
        };
        let many = |(start, end): (u64, u64), client: &mut PlainClient| {
            client.send(&Request::Multi(
                (start..end).map(operation).map(MultiOp::Delete).collect(),
            ));
        };
        self.pipeline(
            batches(0, count, BATCH_OPERATIONS_MAX),
            many,
            |range, reply| {
                if multi_outcome(reply).is_ok() {
                    return Ok(range.1 - range.0);
                }
                failed.push(range);
                Ok(0)
            },
        )?;
        // One that is missing spoils a whole multi.
        let one =
            |number, client: &mut PlainClient| client.send(&Request::Delete(operation(number)));
        self.pipeline(
            failed.into_iter().flat_map(|(start, end)| start..end),
            one,
            |_, reply| match reply.err {
                ErrorCode::OK | ErrorCode::NO_NODE => Ok(1),
                code => Err(refused("delete", "a znode of the run", code)),
            },
        )
    }

    /// Znodes per multi.
    fn batch(&self) -> u64 {
        (BATCH_BYTES_MAX / self.options.value_bytes.max(1)).clamp(1, BATCH_OPERATIONS_MAX as usize)
            as u64
    }

    /// Sends a request per item, a window of them at once, and hands each reply to `take`, which says how many
    /// znodes it stands for.
    fn pipeline<T: Copy>(
        &mut self,
        items: impl Iterator<Item = T>,
        send: impl Fn(T, &mut PlainClient),
        mut take: impl FnMut(T, &Reply<'_>) -> Result<u64, PerfError>,
    ) -> Result<(), PerfError> {
        let mut in_flight = VecDeque::new();
        let mut items = items.fuse();
        loop {
            if in_flight.len() <= WINDOW / 2 {
                for item in items.by_ref().take(WINDOW - in_flight.len()) {
                    send(item, &mut self.client);
                    in_flight.push_back(item);
                }
                self.client.flush()?;
            }
            let Some(item) = in_flight.pop_front() else {
                return Ok(());
            };
            let done = self.client.receive(|reply| take(item, reply))??;
            self.done.fetch_add(done, Ordering::Relaxed);
        }
    }
}

fn found_version(options: &PerfOptions, slot: u64, reply: &Reply<'_>) -> Result<i32, PerfError> {
    let path = slot_path(&options.root, slot);
    if !reply.err.is_ok() {
        return Err(refused("exists", &path, reply.err));
    }
    let stat = reply
        .stat()
        .map_err(|fault| PerfError::Protocol(format!("exists {path}: {fault}")))?;
    if stat.data_length as usize != options.value_bytes {
        let reason = format!(
            "{path} exists with a value of {} B; choose another --root",
            stat.data_length
        );
        return Err(PerfError::Options(reason));
    }
    Ok(stat.version)
}

fn batches(start: u64, end: u64, step: u64) -> impl Iterator<Item = (u64, u64)> {
    (start..end)
        .step_by(step as usize)
        .map(move |at| (at, (at + step).min(end)))
}

fn create_slots(options: &PerfOptions, (start, end): (u64, u64), client: &mut PlainClient) {
    let mut values = Vec::new();
    (start..end).for_each(|slot| put_value(&mut values, slot, 0, options.value_bytes));
    let paths: Vec<_> = (start..end)
        .map(|slot| slot_path(&options.root, slot))
        .collect();
    let value = |nth: usize| &values[nth * options.value_bytes..(nth + 1) * options.value_bytes];
    let operations = paths
        .iter()
        .enumerate()
        .map(|(nth, path)| MultiOp::Create(create(path, value(nth))));
    client.send(&Request::Multi(operations.collect()));
}

fn create<'a>(path: &'a str, value: &'a [u8]) -> CreateRequest<'a> {
    CreateRequest {
        op: OpCode::CREATE,
        path: Some(Cow::Borrowed(path)),
        data: Some(value),
        acl: Some(vec![AclRecord::open()]),
        flags: 0,
        ttl_ms: None,
    }
}

fn delete_request(path: &str) -> Request<'_> {
    Request::Delete(DeleteRequest {
        path: Some(Cow::Borrowed(path)),
        version: -1,
    })
}

/// Whether all operations of a multi succeeded; else the first code that says why.
fn multi_outcome(reply: &Reply<'_>) -> Result<(), ErrorCode> {
    if !reply.err.is_ok() {
        return Err(reply.err);
    }
    let results = reply
        .multi_results()
        .map_err(|_| ErrorCode::MARSHALLING_ERROR)?;
    let failure = results.iter().find_map(|result| match result {
        MultiResult::Error(code) if !code.is_ok() => Some(*code),
        _ => None,
    });
    failure.map_or(Ok(()), Err)
}

fn refused(operation: &str, path: &str, code: ErrorCode) -> PerfError {
    PerfError::Protocol(format!("{operation} {path}: {code}"))
}
