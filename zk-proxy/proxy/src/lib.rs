//! oxkeeper-proxy
