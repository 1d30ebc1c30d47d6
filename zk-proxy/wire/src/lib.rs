//! oxkeeper-wire
