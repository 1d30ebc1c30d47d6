//! oxkeeper-store-rocksdb
