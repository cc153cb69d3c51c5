//! What a block is: a folder with `data.parquet` (one row a trace), bloom filters, an index and `meta.json`.

mod any_value_json;
mod assemble;
mod attribute_json;
mod attribute_set;
mod attributes;
mod bits;
mod bloom;
mod blooms;
mod byte_arrays;
mod cached_chunk;
mod chunk;
mod chunk_cache;
mod coded;
mod columns;
mod decompress;
pub mod dedicated;
mod delta;
mod dictionary;
mod fields;
mod index;
mod keys;
mod leaf;
mod leaves;
mod legacy;
mod level_bits;
mod levels;
mod meta;
mod narrow;
mod number_codes;
mod optional_at;
mod owners;
mod page_index;
mod pages;
mod promoted;
mod reader;
mod records;
mod row_levels;
mod row_values;
mod rows;
mod schema;
mod shape;
mod shred;
mod some_rows;
mod text_index;
mod thrift;
mod value_json;
mod values;
mod version;
pub mod vocabulary;
mod writer;

pub use bloom::{Bloom, BloomShard, shard_of};
pub use chunk_cache::ColumnCacheStats;
pub use dedicated::{DedicatedColumns, DedicatedSetting};
pub use meta::{BlockMeta, DedicatedColumn, DedicatedScope, DedicatedType};
pub use reader::{BlockCache, BlockReader, CacheSizes};
pub use version::{BlockVersion, Version};
pub use writer::write_block;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod leaf_tests;
#[cfg(test)]
mod narrow_tests;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod roundtrip_tests;
#[cfg(test)]
mod v3_tests;
#[cfg(test)]
mod write_tests;
