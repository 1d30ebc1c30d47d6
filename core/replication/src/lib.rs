//! oxkeeper-replication
