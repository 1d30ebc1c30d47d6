//! Log entries → state: one function per command.

use std::sync::Arc;

use oxkeeper_model::{
    Attachment, ChangeSet, ClientCommand, CloseOutcome, Command, CommandOutcome, Digest, Entry,
    FeatureLevel, Nonce, Offset, Path, Revision, SeedRecord, SessionError, SessionGrant, SessionId,
    SessionPassword, SessionWrite, TxnOutcome, WriteOutcome, WriteRefusal, WriteSeq, limits,
};
use subtle::ConstantTimeEq;

use super::ends::MISCOUNTED;
use super::tree::{Times, Tree, TreeChanges};
use super::{Applied, ShardState, StateError, digest, is_due};
use crate::keys;
use crate::records::{Commit, Index, rows_of};
use crate::rows::Kept;
use crate::sessions::{Admission, Session, password_of, session_id};
use oxkeeper_store::KeyValueStore;

impl<S: KeyValueStore> ShardState<S> {
    pub(super) fn apply_entry(
        &mut self,
        offset: Offset,
        entry: &Entry,
        out: &mut Vec<Applied>,
    ) -> Result<(), StateError> {
        self.meta.wall_ms = entry.wall_ms;
        self.meta.elapsed_ms = self.meta.elapsed_ms.max(entry.elapsed_ms);
        for command in &entry.commands {
            let mut applied = self.apply_command(command)?;
            self.chain_digest(command, &mut applied);
            if let Some(change) = &applied.change {
                for preparation in self.preparations.values_mut() {
                    preparation.follow(change);
                }
            }
            out.push(applied);
        }
        self.batch.clear();
        self.commit_records()?;
        let meta = &mut self.meta;
        meta.applied = offset;
        meta.term = entry.term;
        meta.counters = self.records.counters;
        meta.puts = self.records.puts;
        self.digests.push(offset, meta.digest);
        self.batch.put_with(&[keys::META], |out| meta.encode(out));
        self.write_batch()?;
        match self.graves.is_empty() {
            true => Ok(()),
            false => self.sweep(),
        }
    }

    /// Writes what was changed in memory to the batch.
    pub(super) fn commit_records(&mut self) -> Result<(), StateError> {
        self.records.commit(&mut Commit {
            store: &self.store,
            batch: &mut self.batch,
            acls: &mut self.acls,
            graves: &mut self.graves,
            next_acl_id: &mut self.meta.next_acl_id,
        })
    }

    /// Takes a command into the digest; the change set carries what the digest is then.
    fn chain_digest(&mut self, command: &Command, applied: &mut Applied) {
        let meta = &mut self.meta;
        let input = &mut self.digest_input;
        meta.digest = digest::chain(meta.digest, input, meta.elapsed_ms, command, applied);
        if let Some(change) = &mut applied.change {
            Arc::make_mut(change).digest = meta.digest;
            meta.revision_digest = meta.digest;
        }
    }

    fn apply_command(&mut self, command: &Command) -> Result<Applied, StateError> {
        if let Some(refused) = self.before_genesis(command) {
            return Ok(refused);
        }
        match command {
            Command::Genesis { secret, seed } => {
                self.genesis(secret, seed);
                Ok(NOTHING)
            }
            Command::TermStart | Command::Time => Ok(NOTHING),
            Command::Client(command) => self.client_command(command),
            Command::ExpireSession {
                session,
                attachment,
            } => self.expire_session(*session, *attachment),
            Command::Reap { path } => self.reap(path),
            Command::Acknowledge { sessions } => {
                for &(session, attachment, up_to) in sessions {
                    self.sessions.acknowledge(session, attachment, up_to);
                }
                Ok(NOTHING)
            }
            Command::Checksum { offset, digest } => Ok(self.compare(*offset, *digest)),
            Command::FeatureLevel { level } => self.raise_level(*level),
        }
    }

    /// A shard without its genesis has no sessions and makes none. No well-formed log has such a
    /// command; one that does may stop no replica for good.
    fn before_genesis(&self, command: &Command) -> Option<Applied> {
        if self.is_seeded() {
            return None;
        }
        match command {
            Command::Client(ClientCommand::OpenSession { .. }) => Some(Applied {
                change: None,
                outcome: CommandOutcome::SessionGranted(Err(SessionError::Expired)),
            }),
            Command::FeatureLevel { .. } => Some(NOTHING),
            // These find no session and no record.
            _ => None,
        }
    }

    fn compare(&self, offset: Offset, digest: Digest) -> Applied {
        let own = self.digests.at(offset);
        Applied {
            change: None,
            outcome: CommandOutcome::Compared(own.map(|own| own == digest)),
        }
    }

    fn raise_level(&mut self, level: FeatureLevel) -> Result<Applied, StateError> {
        if level > limits::FEATURE_LEVEL_MAX {
            return Err(StateError::UnknownLevel(level));
        }
        self.meta.feature_level = self.meta.feature_level.max(level);
        Ok(NOTHING)
    }

    fn client_command(&mut self, command: &ClientCommand) -> Result<Applied, StateError> {
        match command {
            ClientCommand::Write(write) => self.write(write),
            ClientCommand::OpenSession { nonce, timeout_ms } => {
                self.open_session(*nonce, *timeout_ms)
            }
            ClientCommand::Attach {
                session,
                password,
                replaces,
                nonce,
                timeout_ms,
            } => {
                let granted = self.attach(*session, password, *replaces, *nonce, *timeout_ms);
                Ok(Applied {
                    change: None,
                    outcome: CommandOutcome::SessionGranted(granted),
                })
            }
            ClientCommand::CloseSession {
                session,
                attachment,
                seq,
                follows,
            } => self.close_session(*session, *attachment, (*seq, *follows)),
        }
    }

    pub(super) fn take_revision(&mut self) -> Revision {
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
            self.records.puts = self.records.puts.max(head.version_id.saturating_add(1));
            self.records
                .insert(path.clone(), head.into(), record.value.clone());
        }
    }

    fn write(&mut self, write: &SessionWrite) -> Result<Applied, StateError> {
        let SessionWrite {
            session,
            attachment,
            seq,
            follows,
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
        match self
            .sessions
            .admit(session, attachment, (seq, follows), acknowledged)
        {
            Admission::Refused(refusal) => Ok(Applied {
                change: None,
                outcome: outcome((self.meta.revision, Err(refusal))),
            }),
            Admission::Again(kept) => Ok(Applied {
                change: None,
                outcome: outcome((kept.revision, Ok(kept.outcome))),
            }),
            Admission::Proceed => {
                let revision = self.take_revision();
                let (change, result) = self.transact(revision, write)?;
                let outcome_kept = Kept {
                    seq,
                    revision,
                    outcome: result.clone(),
                };
                self.sessions.keep(session, outcome_kept);
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
        let TreeChanges { changes, parents } = tree.finish()?;
        if let TxnOutcome::Failed { .. } = outcome {
            self.records.roll_back();
            return Ok((ChangeSet::empty(revision), outcome));
        }
        self.count_ephemerals()?;
        Ok((
            ChangeSet {
                changes,
                parents,
                ..ChangeSet::empty(revision)
            },
            outcome,
        ))
    }

    pub(super) fn tree(&mut self, revision: Revision) -> Tree<'_, S> {
        Tree::new(
            rows_of(&self.store, &self.acls, &self.graves),
            &mut self.records,
            &mut self.quotas,
            revision,
            Times {
                wall_ms: self.meta.wall_ms,
                elapsed_ms: self.meta.elapsed_ms,
            },
        )
    }

    /// Moves the sessions' counts along with the index rows of the transaction.
    fn count_ephemerals(&mut self) -> Result<(), StateError> {
        for change in self.records.index_changes_of_transaction() {
            if let Index::Ephemeral(session) = change.index
                && let Some(session) = self.sessions.get_mut(session)
            {
                let counted = match change.added {
                    true => session.ephemerals.checked_add(1),
                    false => session.ephemerals.checked_sub(1),
                };
                session.ephemerals = counted.ok_or(MISCOUNTED)?;
            }
        }
        Ok(())
    }

    fn open_session(&mut self, nonce: Nonce, timeout_ms: u32) -> Result<Applied, StateError> {
        let (id, change) = match self.sessions.opened_with(nonce) {
            Some(id) => (id, None),
            None => {
                let count = self.meta.sessions_ever + 1;
                let id = session_id(self.shard, count)
                    .ok_or(StateError::Broken("all session ids are used up"))?;
                self.meta.sessions_ever = count;
                self.sessions.open(id, nonce, timeout_ms);
                (id, Some(Arc::new(ChangeSet::empty(self.take_revision()))))
            }
        };
        let session = self.sessions.get(id);
        let session = session.ok_or(StateError::Broken("an opened session is missing"))?;
        let granted = Ok(self.grant(id, session));
        Ok(Applied {
            change,
            outcome: CommandOutcome::SessionGranted(granted),
        })
    }

    fn grant(&self, id: SessionId, session: &Session) -> SessionGrant {
        SessionGrant {
            session: id,
            password: self.password(id),
            attachment: session.attachment,
            timeout_ms: session.timeout_ms,
        }
    }

    fn password(&self, session: SessionId) -> SessionPassword {
        password_of(&self.meta.secret.unwrap_or_default(), session)
    }

    fn attach(
        &mut self,
        session: SessionId,
        password: &SessionPassword,
        replaces: Attachment,
        nonce: Nonce,
        timeout_ms: u32,
    ) -> Result<SessionGrant, SessionError> {
        if self.sessions.get(session).is_none() {
            return Err(SessionError::Expired);
        }
        let right = self.password(session);
        if !bool::from(right.ct_eq(password)) {
            return Err(SessionError::WrongPassword);
        }
        self.sessions.attach(session, replaces, nonce, timeout_ms)?;
        self.abandon_end(session);
        let attached = self.sessions.get(session).ok_or(SessionError::Expired)?;
        Ok(self.grant(session, attached))
    }

    fn close_session(
        &mut self,
        session: SessionId,
        attachment: Attachment,
        (seq, follows): (WriteSeq, WriteSeq),
    ) -> Result<Applied, StateError> {
        let admission = self
            .sessions
            .admit(session, attachment, (seq, follows), WriteSeq(0));
        let current = self.meta.revision;
        let (revision, change, result) = match admission {
            Admission::Proceed => {
                let change = self.end_session(session)?;
                (change.revision, Some(Arc::new(change)), Ok(()))
            }
            // What was to be done is done: by a close that is sent again here, or by time.
            Admission::Refused(WriteRefusal::SessionExpired) => (current, None, Ok(())),
            Admission::Refused(refusal) => {
                // It was made ready for a close that is none.
                self.abandon_end(session);
                (current, None, Err(refusal))
            }
            // The number belongs to a write.
            Admission::Again(_) => {
                let refusal = WriteRefusal::OutOfSequence { last: follows };
                (current, None, Err(refusal))
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

    fn reap(&mut self, path: &Path) -> Result<Applied, StateError> {
        let none = Applied {
            change: None,
            outcome: CommandOutcome::Reaped(false),
        };
        let Some(slot) = self
            .records
            .find(rows_of(&self.store, &self.acls, &self.graves), path)?
        else {
            return Ok(none);
        };
        let is_due = self
            .records
            .head(slot)
            .is_some_and(|head| is_due(head, self.meta.elapsed_ms));
        if !is_due || path.parent().is_none() {
            return Ok(none);
        }
        let revision = self.take_revision();
        self.records.begin(false);
        let mut tree = self.tree(revision);
        tree.remove_by_path(path)?;
        let TreeChanges { changes, parents } = tree.finish()?;
        let change = ChangeSet {
            changes,
            parents,
            ..ChangeSet::empty(revision)
        };
        Ok(Applied {
            change: Some(Arc::new(change)),
            outcome: CommandOutcome::Reaped(true),
        })
    }
}

/// Of a command that nobody waits for.
const NOTHING: Applied = Applied {
    change: None,
    outcome: CommandOutcome::None,
};
