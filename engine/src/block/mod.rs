//! What a block is: a folder with `data.parquet` (one row a trace), bloom filters, an index and `meta.json`.

mod bloom;
mod columns;
mod index;
mod meta;
mod reader;
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
