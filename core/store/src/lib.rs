//! oxkeeper-store
