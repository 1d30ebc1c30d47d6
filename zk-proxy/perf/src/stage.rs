//! The znodes of a run: made before it, deleted after it, many in each multi.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use oxkeeper_wire::client::{MultiResult, Reply};
use oxkeeper_wire::{AclRecord, CreateRequest, DeleteRequest, ErrorCode, MultiOp, OpCode, Request};

use crate::PerfError;
use crate::content::{put_created_path, put_value, slot_path};
use crate::options::PerfOptions;
use crate::plain::PlainClient;

/// Operations in a multi, and bytes of values in it.
const BATCH_OPERATIONS_MAX: u64 = 100;
const BATCH_BYTES_MAX: usize = 500_000;

/// Multis in flight.
const WINDOW: usize = 16;

pub(crate) struct Stage<'a> {
    options: &'a PerfOptions,
    client: PlainClient,
    /// Paths above and including the root that this run has made, the longest last.
    made: Vec<String>,
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
        let mut failed = Vec::new();
        let step = self.batch(self.options.value_bytes);
        self.in_windows(
            batches(0, count, step),
            create_slots,
            |(start, end), outcome| {
                if outcome != Ok(()) {
                    failed.push((start, end));
                }
                Ok(())
            },
        )?;
        for slot in failed.into_iter().flat_map(|(start, end)| start..end) {
            versions[slot as usize] = self.make_slot(slot)?;
        }
        Ok(versions)
    }

    fn make_slot(&mut self, slot: u64) -> Result<i32, PerfError> {
        let path = slot_path(&self.options.root, slot);
        let mut value = Vec::new();
        put_value(&mut value, slot, 0, self.options.value_bytes);
        match self
            .client
            .call(&Request::Create(create(&path, &value)), |reply| reply.err)?
        {
            ErrorCode::OK => return Ok(0),
            ErrorCode::NODE_EXISTS => {}
            code => return Err(refused("create", &path, code)),
        }
        let request = Request::Exists {
            path: Some(Cow::Borrowed(&path)),
            watch: false,
        };
        let stat = self.client.call(&request, |reply| reply.stat())?;
        let stat = stat.map_err(|fault| PerfError::Protocol(format!("exists {path}: {fault}")))?;
        if stat.data_length as usize != self.options.value_bytes {
            let reason = format!(
                "{path} exists with values of {} B; choose another --root",
                stat.data_length
            );
            return Err(PerfError::Options(reason));
        }
        Ok(stat.version)
    }

    /// Deletes all that the run has made.
    pub(crate) fn clear(
        &mut self,
        run: u64,
        created: &[(usize, u64)],
        slots: u64,
    ) -> Result<(), PerfError> {
        let root = self.options.root.clone();
        self.delete(slots, |path, slot| *path = slot_path(&root, slot))?;
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
        let make = |_: &PerfOptions, (start, end): (u64, u64), client: &mut PlainClient| {
            let mut operations = Vec::new();
            for number in start..end {
                let mut path = String::new();
                name(&mut path, number);
                operations.push(MultiOp::Delete(DeleteRequest {
                    path: Some(Cow::Owned(path)),
                    version: -1,
                }));
            }
            client.send(&Request::Multi(operations));
        };
        self.in_windows(
            batches(0, count, BATCH_OPERATIONS_MAX),
            make,
            |range, outcome| {
                if outcome != Ok(()) {
                    failed.push(range);
                }
                Ok(())
            },
        )?;
        let mut path = String::new();
        for number in failed.into_iter().flat_map(|(start, end)| start..end) {
            name(&mut path, number);
            let code = self
                .client
                .call(&delete_request(&path), |reply| reply.err)?;
            if !matches!(code, ErrorCode::OK | ErrorCode::NO_NODE) {
                return Err(refused("delete", &path, code));
            }
        }
        Ok(())
    }

    fn batch(&self, value_bytes: usize) -> u64 {
        (BATCH_BYTES_MAX / value_bytes.max(1)).clamp(1, BATCH_OPERATIONS_MAX as usize) as u64
    }

    /// Sends a multi per batch, a window of them at once, and hands each result to `take`.
    fn in_windows(
        &mut self,
        batches: impl Iterator<Item = (u64, u64)>,
        make: impl Fn(&PerfOptions, (u64, u64), &mut PlainClient),
        mut take: impl FnMut((u64, u64), Result<(), ErrorCode>) -> Result<(), PerfError>,
    ) -> Result<(), PerfError> {
        let mut in_flight = std::collections::VecDeque::new();
        let mut batches = batches.fuse();
        loop {
            while in_flight.len() < WINDOW
                && let Some(batch) = batches.next()
            {
                make(self.options, batch, &mut self.client);
                in_flight.push_back(batch);
            }
            let Some(batch) = in_flight.pop_front() else {
                return Ok(());
            };
            self.client.flush()?;
            let outcome = self.client.receive(multi_outcome)?;
            self.done.fetch_add(batch.1 - batch.0, Ordering::Relaxed);
            take(batch, outcome)?;
        }
    }
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
