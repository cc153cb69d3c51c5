//! What a block is: a folder with `data.parquet` (one row a trace), bloom filters, an index and `meta.json`.

mod any_value_json;
mod assemble;
mod attributes;
mod bloom;
mod chunk;
mod fields;
mod leaf;
mod leaves;
mod levels;
mod bloom;
mod columns;
mod index;
mod meta;
mod pages;
mod promoted;
mod reader;
mod records;
mod rows;
mod shape;
mod thrift;
mod values;
mod schema;
mod shred;
mod value_json;
mod version;
mod writer;

pub use bloom::{Bloom, BloomShard, shard_of};
pub use meta::{BlockMeta, DedicatedColumn, DedicatedScope, DedicatedType};
pub use reader::{BlockReader, FooterCache};
pub use version::Version;
pub use writer::write_block;

#[cfg(test)]
mod write_tests;
