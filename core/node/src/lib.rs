//! oxkeeper-node
