//! The digest of everything that was applied.
//!
//! It takes in what each command changed and answered, in the words of the model: not the bytes of
//! rows, nor what depends on how they are kept (formats, the place of a value, numbers of access
//! lists). So replicas of different versions can compare theirs, and replicas that differ in a
//! record, a session or an outcome differ in it. Persisted and compared between replicas: what a
//! command adds changes only with the feature level.

use std::collections::VecDeque;

use bytes::Bytes;
use oxkeeper_format::error_code;
use oxkeeper_model::{
    AclEntry, Change, ChangeKind, ChangeSet, ChangedValue, ClientCommand, CloseOutcome, Command,
    CommandOutcome, Create, Digest, Head, Lifetime, NativeFields, Offset, SeedRecord, SessionGrant,
    TreeOp, TxnOutcome, WriteOutcome, WriteRefusal, limits::DIGESTS_KEPT_MAX,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Applied;

/// The digest after a command, from the one before it. `input` is scratch space.
pub(super) fn chain(
    before: Digest,
    input: &mut Vec<u8>,
    elapsed_ms: u64,
    command: &Command,
    applied: &Applied,
) -> Digest {
    input.clear();
    let mut input = Input(input);
    input.numbers([elapsed_ms]);
    input.command(command, &applied.outcome);
    input.outcome(&applied.outcome);
    if let Some(change) = &applied.change {
        input.change_set(change);
    }
    Digest(xxh3_64_with_seed(input.0, before.0))
}

/// Numbers are 8 bytes, little-endian; texts and values follow their length or are hashed.
struct Input<'a>(&'a mut Vec<u8>);

impl Input<'_> {
    fn numbers<const N: usize>(&mut self, numbers: [u64; N]) {
        for number in numbers {
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        self.numbers([text.len() as u64]);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// By its hash: it may be long.
    fn value(&mut self, value: Option<&Bytes>) {
        match value {
            None => self.numbers([0]),
            Some(value) => self.numbers([1, xxh3_64(value)]),
        }
    }

    /// What a command says that its change set does not.
    fn command(&mut self, command: &Command, outcome: &CommandOutcome) {
        match command {
            Command::Client(ClientCommand::Write(write)) => {
                self.numbers([write.follows.0, write.acknowledged.0]);
                // By operation: a record that is set twice has both in it.
                if is_applied(outcome) {
                    self.values(&write.ops);
                }
            }
            Command::Client(
                ClientCommand::OpenSession { nonce, .. } | ClientCommand::Attach { nonce, .. },
            ) => self.numbers([nonce.0]),
            Command::Genesis { secret, seed } => {
                self.0.extend_from_slice(secret);
                seed.iter().for_each(|seed| self.seed(seed));
            }
            Command::Acknowledge { sessions } => {
                for (session, attachment, up_to) in sessions {
                    self.numbers([session.0 as u64, attachment.0, up_to.0]);
                }
            }
            Command::FeatureLevel { level } => self.numbers([u64::from(level.0)]),
            Command::TermStart
            | Command::Client(ClientCommand::CloseSession { .. })
            | Command::ExpireSession { .. }
            | Command::Reap { .. }
            | Command::Time
            | Command::Checksum { .. } => {}
        }
    }

    fn values(&mut self, ops: &[TreeOp]) {
        for op in ops {
            if let TreeOp::Create(Create { value, .. }) | TreeOp::SetValue { value, .. } = op {
                self.value(value.as_ref());
            }
        }
    }

    fn seed(&mut self, seed: &SeedRecord) {
        self.text(&seed.path);
        self.head(&seed.record.head);
        self.acl(&seed.record.head.acl);
        self.value(seed.record.value.as_ref());
    }

    fn outcome(&mut self, outcome: &CommandOutcome) {
        self.numbers(match outcome {
            CommandOutcome::None => [1, 0, 0, 0],
            CommandOutcome::Written(outcome) => written(outcome),
            CommandOutcome::SessionGranted(Ok(grant)) => {
                let SessionGrant {
                    session,
                    attachment,
                    timeout_ms,
                    ..
                } = grant;
                [3, session.0 as u64, attachment.0, u64::from(*timeout_ms)]
            }
            CommandOutcome::SessionGranted(Err(error)) => [4, *error as u64, 0, 0],
            CommandOutcome::SessionClosed(session, CloseOutcome { revision, result }) => {
                [5, session.0 as u64, revision.0, refusal(result.err())]
            }
            CommandOutcome::SessionExpired(session, ended) => {
                [6, session.0 as u64, u64::from(*ended), 0]
            }
            CommandOutcome::Reaped(deleted) => [7, u64::from(*deleted), 0, 0],
            // Whether a replica could compare is its own matter.
            CommandOutcome::Compared(_) => [8, 0, 0, 0],
        });
    }

    fn change_set(&mut self, set: &ChangeSet) {
        let ended = set.session_ended.unwrap_or_default();
        self.numbers([set.revision.0, ended.0 as u64, set.changes.len() as u64]);
        set.changes.iter().for_each(|change| self.change(change));
        self.numbers([set.parents.len() as u64]);
        for (path, head) in &set.parents {
            self.text(path);
            self.children(head);
        }
        if let Some(end) = &set.end {
            let (records, parents) = (end.records.len(), end.parents.len());
            self.numbers([records as u64, parents as u64, end.fingerprint]);
        }
    }

    fn change(&mut self, change: &Change) {
        let kind = match change.kind {
            ChangeKind::Created => 1,
            ChangeKind::ValueSet => 2,
            ChangeKind::AclSet => 3,
            ChangeKind::Deleted => 4,
            ChangeKind::Recounted => 5,
        };
        self.numbers([kind]);
        self.text(&change.path);
        self.head(&change.head);
        if matches!(change.kind, ChangeKind::Created | ChangeKind::AclSet) {
            self.acl(&change.head.acl);
        }
        // No command says what the shard itself has written.
        if let (ChangeKind::Recounted, ChangedValue::Set(value)) = (change.kind, &change.value) {
            self.value(value.as_ref());
        }
    }

    /// All of a head but its access list.
    fn head(&mut self, head: &Head) {
        let lifetime = match head.lifetime {
            Lifetime::Persistent => [0, 0],
            Lifetime::Ephemeral => [1, 0],
            Lifetime::Container => [2, 0],
            Lifetime::Ttl { ttl_ms } => [3, ttl_ms],
        };
        self.numbers([
            head.created_revision.0,
            head.modified_revision.0,
            head.created_at_ms as u64,
            head.modified_at_ms as u64,
            head.modifications_count as u64,
            head.version_id,
            head.acl_version as u64,
            head.session.unwrap_or_default().0 as u64,
            head.idle_since_ms,
            head.value_bytes.map_or(0, |bytes| u64::from(bytes) + 1),
        ]);
        self.numbers(lifetime);
        self.children(head);
        if let Some(native) = &head.native {
            self.native(native);
        }
    }

    fn children(&mut self, head: &Head) {
        let children = &head.children;
        self.numbers([
            u64::from(children.live),
            children.created_ever,
            children.last_change.0,
        ]);
    }

    fn native(&mut self, native: &NativeFields) {
        for text in [&native.client_identity, &native.partition_key] {
            self.numbers([u64::from(text.is_some())]);
            self.text(text.as_deref().unwrap_or_default());
        }
        for (name, key) in &native.secondary_indexes {
            self.text(name);
            self.text(key);
        }
    }

    fn acl(&mut self, acl: &[AclEntry]) {
        self.numbers([acl.len() as u64]);
        for entry in acl {
            self.numbers([entry.permissions as u64]);
            self.text(&entry.scheme);
            self.text(&entry.id);
        }
    }
}

fn is_applied(outcome: &CommandOutcome) -> bool {
    matches!(
        outcome,
        CommandOutcome::Written(WriteOutcome {
            result: Ok(TxnOutcome::Applied(_)),
            ..
        })
    )
}

fn written(outcome: &WriteOutcome) -> [u64; 4] {
    use oxkeeper_model::TxnOutcome::{Applied, Failed};
    let result = match &outcome.result {
        Ok(Applied(_)) => 1,
        Ok(Failed { index, error }) => {
            let (number, code) = error_code(*error);
            let error = u64::from(number) << 8 | u64::from(code as u32) << 32;
            (2 | error) ^ u64::from(*index).rotate_right(16)
        }
        Err(error) => 3 | refusal(Some(*error)) << 8,
    };
    [
        2 | outcome.revision.0 << 8,
        outcome.session.0 as u64,
        outcome.seq.0,
        result,
    ]
}

fn refusal(refusal: Option<WriteRefusal>) -> u64 {
    match refusal {
        None => 0,
        Some(WriteRefusal::SessionExpired) => 1,
        Some(WriteRefusal::SessionMoved) => 2,
        Some(WriteRefusal::OutOfSequence { .. }) => 3,
    }
}

/// What the digest was after each of the last entries.
#[derive(Debug)]
pub(super) struct RecentDigests {
    /// Offset of the last.
    last: Offset,
    /// Invariant: of offsets without gaps, up to `last`.
    digests: VecDeque<Digest>,
}

impl RecentDigests {
    pub(super) fn new(applied: Offset, digest: Digest) -> Self {
        Self {
            last: applied,
            digests: [digest].into(),
        }
    }

    /// Of the next entry.
    pub(super) fn push(&mut self, offset: Offset, digest: Digest) {
        if self.digests.len() == DIGESTS_KEPT_MAX {
            self.digests.pop_front();
        }
        self.last = offset;
        self.digests.push_back(digest);
    }

    pub(super) fn at(&self, offset: Offset) -> Option<Digest> {
        let back = usize::try_from(self.last.0.checked_sub(offset.0)?).ok()?;
        let at = self.digests.len().checked_sub(back)?.checked_sub(1)?;
        self.digests.get(at).copied()
    }
}
