//! oxkeeper-log
