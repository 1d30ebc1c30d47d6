//! How RocksDB is set up, and why.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, Error, LogLevel, Options,
};

/// Default of [`BlockCache::new`].
const BLOCK_CACHE_BYTES_DEFAULT: usize = 32 << 20;

/// Default of [`RocksOptions::table_bytes`].
const TABLE_BYTES_DEFAULT: usize = 64 << 20;

/// RocksDB flushes a memtable of this size by itself. It is empty, or has one checkpoint.
const MEMTABLE_BYTES_MAX: usize = 1 << 30;

/// Tables that compactions write are small, so that one compaction is short.
const COMPACTED_TABLE_BYTES: u64 = 16 << 20;
const LEVEL_1_BYTES: u64 = 64 << 20;

/// Level 0 grows when compactions lag; reads get slower, writes must not.
const LEVEL_0_COMPACT_FILES: i32 = 4;
const LEVEL_0_SLOWDOWN_FILES: i32 = 40;
const LEVEL_0_STOP_FILES: i32 = 80;

/// Flushes and compactions together write no faster than this, so that the log's syncs on the
/// same disk stay fast.
const BACKGROUND_BYTES_PER_SECOND: i64 = 96 << 20;
const RATE_REFILL_MICROS: i64 = 20_000;
const RATE_FAIRNESS: i32 = 10;

/// Written data goes to the disk in steps of this, not all at the sync at the end.
const SYNC_STEP_BYTES: u64 = 1 << 20;

const BLOOM_BITS_PER_KEY: f64 = 10.0;
const OPEN_FILES_MAX: i32 = 256;
const INFO_LOG_BYTES: usize = 1 << 20;

/// Blocks of tables in memory. Clones share one; so do the shards of a node.
#[derive(Clone)]
pub struct BlockCache(Cache);

impl BlockCache {
    pub fn new(bytes: usize) -> Self {
        Self(Cache::new_lru_cache(bytes))
    }

    pub fn used_bytes(&self) -> usize {
        self.0.get_usage()
    }
}

impl Default for BlockCache {
    fn default() -> Self {
        Self::new(BLOCK_CACHE_BYTES_DEFAULT)
    }
}

/// What an operator may choose.
#[derive(Clone)]
pub struct RocksOptions {
    /// Shared with whoever has a clone of it. Default: 32 MiB.
    pub block_cache: BlockCache,
    /// Bytes of rows, before compression, after which a checkpoint goes on in another table.
    /// Default: 64 MiB, so that one of usual size is one table.
    pub table_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            block_cache: BlockCache::default(),
            table_bytes: TABLE_BYTES_DEFAULT,
        }
    }
}

pub(crate) fn options(options: &RocksOptions) -> Result<Options, Error> {
    // A close must not flush. This one has no setter.
    let mut db = Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
    db.create_if_missing(true);
    // A compaction that meets a damaged block fails and must not stop the database with it. What
    // else this leaves out is checked at open.
    db.set_paranoid_checks(false);
    db.set_block_based_table_factory(&tables(&options.block_cache));
    db.set_compression_type(DBCompressionType::Lz4);
    db.set_write_buffer_size(MEMTABLE_BYTES_MAX);
    compactions(&mut db);
    db.set_max_open_files(OPEN_FILES_MAX);
    db.set_skip_stats_update_on_db_open(true);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_log_level(LogLevel::Warn);
    db.set_max_log_file_size(INFO_LOG_BYTES);
    db.set_keep_log_file_num(2);
    Ok(db)
}

fn compactions(db: &mut Options) {
    db.set_max_background_jobs(2);
    db.set_level_compaction_dynamic_level_bytes(true);
    db.set_target_file_size_base(COMPACTED_TABLE_BYTES);
    db.set_max_bytes_for_level_base(LEVEL_1_BYTES);
    db.set_level_zero_file_num_compaction_trigger(LEVEL_0_COMPACT_FILES);
    db.set_level_zero_slowdown_writes_trigger(LEVEL_0_SLOWDOWN_FILES);
    db.set_level_zero_stop_writes_trigger(LEVEL_0_STOP_FILES);
    db.set_ratelimiter(
        BACKGROUND_BYTES_PER_SECOND,
        RATE_REFILL_MICROS,
        RATE_FAIRNESS,
    );
    db.set_bytes_per_sync(SYNC_STEP_BYTES);
}

/// Index and filters stay in memory, outside the block cache: three bytes per record, 28 MiB for ten
/// million. Partitioned ones in the cache would have a bound, but were measured slower from a
/// million records on (at ten million three times, for a read that the cache does not hold) and
/// took as much memory, since the cache was always full.
fn tables(cache: &BlockCache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&cache.0);
    tables.set_index_type(BlockBasedIndexType::BinarySearch);
    tables.set_cache_index_and_filter_blocks(false);
    tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    tables.set_format_version(6);
    tables
}
