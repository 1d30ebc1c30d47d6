//! The replica: who may append to a shard's log, and when an entry is committed.
//!
//! A plain state machine. [`Replica::step`] takes an [`Input`] and says by [`Output`]s what to
//! do; nothing here does I/O, waits, reads a clock or knows what an entry contains. The node's
//! driver runs it with real files, the simulator with none.
//!
//! The protocol is Oxia's with the corrections of the architecture page: the coordinator raises
//! the term and fences the nodes ([`Input::NewTerm`]), then makes one of them leader
//! ([`Input::BecomeLeader`]). The leader writes a term-start entry and commits by counting the
//! durable offsets of the ensemble, but only up to entries of its own term; what came before is
//! committed with them. Whoever learns of a higher term stops leading at once.
//!
//! Today every ensemble has one member, the node itself, and everything already goes through
//! here. Replication adds the network that carries [`Output::Append`] to followers and their
//! [`Input::FollowerAck`] back, not another path.
//!
//! Entry types: [`Replica`], [`Input`], [`Output`].

mod replica;

pub use replica::{
    EnsembleError, EntryKind, Input, InvariantBroken, LogEnd, Output, Recovered, Refusal, Replica,
    Role,
};
