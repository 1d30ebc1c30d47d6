//! oxkeeper-proto
