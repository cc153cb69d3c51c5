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
mod meta;
mod pages;
mod promoted;
mod reader;
mod records;
mod rows;
mod shape;
mod thrift;
mod values;
mod version;
mod writer;

pub use meta::{BlockMeta, DedicatedColumn, DedicatedScope, DedicatedType};
pub use reader::{BlockReader, FooterCache};
pub use version::Version;
pub use writer::write_block;
