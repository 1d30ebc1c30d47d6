//! oxkeeper-compat-tests
