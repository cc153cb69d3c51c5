//! The write-ahead log: what is acked and not in a block yet, as files in `<data folder>/wal/<tenant>/`.
//!
//! - `NNNNNNNN.wal`, a *segment*: records, each the protobuf of one `ExportTraceServiceRequest` (bytes: [`segment`]).
//! - `<block id>.sealed`, a *manifest*: says which segments make up that block, and which of their traces do not belong
//!   to it because they were carried over into a later segment.
//!
//! A segment without a manifest belongs to the *active generation*, the spans that no block is decided for.
//!
//! # Why a crash at any point loses no acked span and shows none twice
//!
//! | killed while | found at the next start | so |
//! |---|---|---|
//! | a record is written | a torn tail | it is cut; the push was not acked |
//! | record synced, ack not sent | the record | the span is there once; when the client sends it again, it is dropped by span id and kind |
//! | traces are carried over: their spans are synced to the next segment before anything else happens | the same spans in two segments without manifest | both are replayed into one generation; what the earlier segment has is dropped from the later one |
//! | the manifest is written (`.tmp`, synced, then renamed, folder synced) | a `.tmp` | it is removed, as above |
//! | manifest in place, block not committed (no `meta.json`) | manifest and segments | exactly the traces of that block are live again under the same block id, and the block is written again over whatever is there of it; carried traces come from their own segment only |
//! | block committed, segments not deleted | manifest and segments, block committed | the segments are deleted without being replayed into another block |
//! | segments are deleted (the manifest goes last) | manifest, block committed | the rest is deleted |
//!
//! The block id is fixed before the first byte of the block is written and never changes after. So it does not matter
//! whether a write that was under way at the crash still reaches the store: it is the same block with the same traces.
//! Each manifest stands for itself, so blocks may be committed in any order.

pub mod append;
pub mod lock;
pub mod manifest;
pub mod replay;
pub mod segment;

pub use append::{DiskIo, SegmentWriter, WalFile, WalIo};
pub use lock::DataDirLock;
pub use manifest::Manifest;
