//! The net: listens for clients, moves bytes between their sockets and their sessions.

pub(crate) mod connection;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod socket;
