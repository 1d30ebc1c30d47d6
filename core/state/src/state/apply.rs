//! Log entries → state: one function per command.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use oxkeeper_model::{
    Attachment, ChangeSet, Changes, ClientCommand, CloseOutcome, Command, CommandOutcome, Entry,
    Offset, Parents, Path, Revision, SeedRecord, SessionError, SessionGrant, SessionId,
    SessionPassword, SessionWrite, TxnOutcome, WriteOutcome, WriteRefusal, WriteSeq,
};
use subtle::ConstantTimeEq;

use super::tree::{Tree, TreeChanges};
use super::{Applied, ShardState, StateError, digest, is_due};
use crate::keys;
use crate::records::{Commit, Index};
use crate::sessions::{Admission, next_session, password_of};
use oxkeeper_store::{KeyRange, KeyValueStore};

impl<S: KeyValueStore> ShardState<S> {
    pub(super) fn apply_entry(
        &mut self,
        offset: Offset,
        entry: &Entry,
        out: &mut Vec<Applied>,
    ) -> Result<(), StateError> {
        self.meta.log_time_ms = self.meta.log_time_ms.max(entry.at_ms);
        self.digest_input.clear();
        for command in &entry.commands {
            let applied = self.apply_command(command)?;
            digest::feed(&mut self.digest_input, &applied);
            out.push(applied);
        }
        self.batch.clear();
        self.records.commit(&mut Commit {
            store: &self.store,
            batch: &mut self.batch,
            acls: &mut self.acls,
            next_acl_id: &mut self.meta.next_acl_id,
        })?;
        let meta = &mut self.meta;
        meta.applied = offset;
        meta.counters = self.records.counters;
        meta.puts = self.records.puts;
        meta.digest = digest::chain(meta.digest, self.batch.as_bytes(), &self.digest_input);
        self.batch.put_with(&[keys::META], |out| meta.encode(out));
        Ok(self.write_batch()?)
    }

    fn apply_command(&mut self, command: &Command) -> Result<Applied, StateError> {
        if !self.is_seeded() && !matches!(command, Command::Genesis { .. } | Command::TermStart) {
            return Err(StateError::NotSeeded);
        }
        match command {
            Command::Genesis { secret, seed } => {
                self.genesis(secret, seed);
                Ok(Applied {
                    change: None,
                    outcome: CommandOutcome::None,
                })
            }
            Command::TermStart => Ok(Applied {
                change: None,
                outcome: CommandOutcome::None,
            }),
            Command::Client(command) => self.client_command(command),
            Command::ExpireSession {
                session,
                attachment,
            } => self.expire_session(*session, *attachment),
            Command::Reap { path } => self.reap(path),
        }
    }

    fn client_command(&mut self, command: &ClientCommand) -> Result<Applied, StateError> {
        match command {
            ClientCommand::Write(write) => self.write(write),
            ClientCommand::OpenSession { timeout_ms } => Ok(self.open_session(*timeout_ms)),
            ClientCommand::Attach {
                session,
                password,
                timeout_ms,
            } => {
                let granted = self.attach(*session, password, *timeout_ms);
                Ok(Applied {
                    change: None,
                    outcome: CommandOutcome::SessionGranted(granted),
                })
            }
            ClientCommand::CloseSession {
                session,
                attachment,
                seq,
            } => self.close_session(*session, *attachment, *seq),
        }
    }

    fn take_revision(&mut self) -> Revision {
        self.meta.revision = self.meta.revision.next();
        self.meta.revision
    }

    fn genesis(&mut self, secret: &[u8; 32], seed: &[SeedRecord]) {
        if self.is_seeded() {
            return;
        }
        self.meta.secret = Some(*secret);
        self.records.begin(false);
        for SeedRecord { path, record } in seed {
            let mut head = record.head.clone();
            head.acl = self.acls.shared(&head.acl);
            self.records.puts = self.records.puts.max(head.version_id);
            self.records
                .insert(path.clone(), head.into(), record.value.clone());
        }
    }

    fn write(&mut self, write: &SessionWrite) -> Result<Applied, StateError> {
        let SessionWrite {
            session,
            attachment,
            seq,
            acknowledged,
            ..
        } = *write;
        let outcome = |(revision, result)| {
            CommandOutcome::Written(WriteOutcome {
                session,
                seq,
                revision,
                result,
            })
        };
        match self.sessions.admit(session, attachment, seq, acknowledged) {
            Admission::Refused(refusal) => Ok(Applied {
                change: None,
                outcome: outcome((self.meta.revision, Err(refusal))),
            }),
            Admission::Again((revision, result)) => Ok(Applied {
                change: None,
                outcome: outcome((revision, Ok(result))),
            }),
            Admission::Proceed => {
                let revision = self.take_revision();
                let (change, result) = self.transact(revision, write)?;
                self.sessions.keep(session, (revision, result.clone()));
                Ok(Applied {
                    change: Some(Arc::new(change)),
                    outcome: outcome((revision, Ok(result))),
                })
            }
        }
    }

    /// Evaluates a transaction: all of its operations, or none.
    fn transact(
        &mut self,
        revision: Revision,
        write: &SessionWrite,
    ) -> Result<(ChangeSet, TxnOutcome), StateError> {
        self.records.begin(write.ops.len() > 1);
        let mut tree = self.tree(revision);
        let outcome = tree.run(write.session, &write.identities, &write.ops)?;
        let TreeChanges { changes, parents } = tree.finish();
        if let TxnOutcome::Failed { .. } = outcome {
            self.records.roll_back();
            return Ok((empty(revision), outcome));
        }
        self.count_ephemerals();
        Ok((
            ChangeSet {
                revision,
                changes,
                parents,
                session_ended: None,
            },
            outcome,
        ))
    }

    fn tree(&mut self, revision: Revision) -> Tree<'_, S> {
        Tree::new(
            &self.store,
            &mut self.records,
            &self.acls,
            revision,
            self.meta.log_time_ms,
        )
    }

    /// Moves the sessions' counts along with the index rows of the transaction.
    fn count_ephemerals(&mut self) {
        for change in self.records.index_changes_of_transaction() {
            if let Index::Ephemeral(session) = change.index
                && let Some(session) = self.sessions.get_mut(session)
            {
                match change.added {
                    true => session.ephemerals += 1,
                    false => session.ephemerals -= 1,
                }
            }
        }
    }

    fn open_session(&mut self, timeout_ms: u32) -> Applied {
        let revision = self.take_revision();
        let (session, counter) =
            next_session(self.shard, self.meta.last_session, self.meta.log_time_ms);
        self.meta.last_session = counter;
        self.sessions.open(session, timeout_ms);
        let attachment = Attachment(1);
        let grant = SessionGrant {
            session,
            password: self.password(session),
            attachment,
            timeout_ms,
        };
        Applied {
            change: Some(Arc::new(empty(revision))),
            outcome: CommandOutcome::SessionGranted(Ok(grant)),
        }
    }

    fn password(&self, session: SessionId) -> SessionPassword {
        password_of(&self.meta.secret.unwrap_or_default(), session)
    }

    fn attach(
        &mut self,
        session: SessionId,
        password: &SessionPassword,
        timeout_ms: u32,
    ) -> Result<SessionGrant, SessionError> {
        if self.sessions.get(session).is_none() {
            return Err(SessionError::Expired);
        }
        let right = self.password(session);
        if !bool::from(right.ct_eq(password)) {
            return Err(SessionError::WrongPassword);
        }
        let attachment = self.sessions.attach(session, timeout_ms);
        let attachment = attachment.ok_or(SessionError::Expired)?;
        Ok(SessionGrant {
            session,
            password: right,
            attachment,
            timeout_ms,
        })
    }

    fn close_session(
        &mut self,
        session: SessionId,
        attachment: Attachment,
        seq: WriteSeq,
    ) -> Result<Applied, StateError> {
        let refusal = match self.sessions.admit(session, attachment, seq, WriteSeq(0)) {
            Admission::Proceed => None,
            Admission::Refused(refusal) => Some(refusal),
            // The number belongs to a write.
            Admission::Again(_) => {
                let last = WriteSeq(seq.0.saturating_sub(1));
                Some(WriteRefusal::OutOfSequence { last })
            }
        };
        let (revision, change, result) = match refusal {
            Some(refusal) => (self.meta.revision, None, Err(refusal)),
            None => {
                let change = self.end_session(session)?;
                (change.revision, Some(Arc::new(change)), Ok(()))
            }
        };
        let outcome = CloseOutcome { revision, result };
        Ok(Applied {
            change,
            outcome: CommandOutcome::SessionClosed(session, outcome),
        })
    }

    fn expire_session(
        &mut self,
        session: SessionId,
        attachment: Attachment,
    ) -> Result<Applied, StateError> {
        let current = self.sessions.get(session).map(|session| session.attachment);
        let ends = current == Some(attachment);
        let change = match ends {
            true => Some(Arc::new(self.end_session(session)?)),
            false => None,
        };
        Ok(Applied {
            change,
            outcome: CommandOutcome::SessionExpired(session, ends),
        })
    }

    /// Ends a session: its records go at one revision, sorted by path, and every parent's children
    /// with them.
    fn end_session(&mut self, session: SessionId) -> Result<ChangeSet, StateError> {
        let revision = self.take_revision();
        let owned = self
            .sessions
            .get(session)
            .map_or(0, |session| session.ephemerals);
        let paths = if owned > 0 {
            self.ephemerals_of(session)?
        } else {
            BTreeSet::new()
        };
        self.records.begin(false);
        let mut tree = self.tree(revision);
        for path in &paths {
            tree.remove_by_path(path)?;
        }
        let TreeChanges { changes, parents } = tree.finish();
        self.sessions.end(session);
        Ok(ChangeSet {
            revision,
            changes,
            parents,
            session_ended: Some(session),
        })
    }

    /// Paths of a session's records, in the midst of an entry.
    fn ephemerals_of(&self, session: SessionId) -> Result<BTreeSet<Path>, StateError> {
        let mut prefix = Vec::new();
        keys::ephemeral(&mut prefix, session, "");
        let mut paths = BTreeSet::new();
        self.store.scan(&KeyRange::prefix(&prefix), &mut |key, _| {
            paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
            ControlFlow::Continue(())
        })?;
        for change in self.records.index_changes() {
            match change.index {
                Index::Ephemeral(owner) if owner == session && change.added => {
                    paths.insert(change.path.clone());
                }
                Index::Ephemeral(owner) if owner == session => {
                    paths.remove(&change.path);
                }
                _ => {}
            }
        }
        Ok(paths)
    }

    fn reap(&mut self, path: &Path) -> Result<Applied, StateError> {
        let none = Applied {
            change: None,
            outcome: CommandOutcome::Reaped(false),
        };
        let Some(slot) = self.records.find(&self.store, &self.acls, path)? else {
            return Ok(none);
        };
        let is_due = self
            .records
            .head(slot)
            .is_some_and(|head| is_due(head, self.meta.log_time_ms));
        if !is_due || path.parent().is_none() {
            return Ok(none);
        }
        let revision = self.take_revision();
        self.records.begin(false);
        let mut tree = self.tree(revision);
        tree.remove_by_path(path)?;
        let TreeChanges { changes, parents } = tree.finish();
        let change = ChangeSet {
            revision,
            changes,
            parents,
            session_ended: None,
        };
        Ok(Applied {
            change: Some(Arc::new(change)),
            outcome: CommandOutcome::Reaped(true),
        })
    }
}

/// The changes of a revision that changed no record.
fn empty(revision: Revision) -> ChangeSet {
    ChangeSet {
        revision,
        changes: Changes::new(),
        parents: Parents::new(),
        session_ended: None,
    }
}
