//! oxkeeper-perf
