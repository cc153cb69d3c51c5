//! What a block is: a folder with `data.parquet` (one row a trace), bloom filters, an index and `meta.json`.

mod meta;
mod reader;
mod version;
mod writer;

pub use meta::{BlockMeta, DedicatedColumn, DedicatedScope, DedicatedType};
pub use reader::{BlockReader, FooterCache};
pub use version::Version;
pub use writer::write_block;
