//! Manifests: `<block id>.sealed`, one record whose payload is JSON. The file's rename into place is the moment at which
//! segments stop being active and become a block's.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracehouse_engine::{Error, Result, TraceId};
use uuid::Uuid;

use super::{
    WalIo,
    append::failed,
    segment::{self, Header, Item, Records},
};

/// Which segments become a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The block's id.
    pub block: Uuid,
    /// Numbers of its segments.
    pub segments: Vec<u64>,
    /// Traces in these segments that are in a later segment as well, and do not belong to the block.
    pub carried: Vec<TraceId>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    segments: Vec<u64>,
    #[serde(default)]
    carried: Vec<String>,
}

impl Manifest {
    /// Where the manifest of a block is.
    pub fn path(folder: &Path, block: Uuid) -> PathBuf {
        folder.join(format!("{block}.sealed"))
    }

    /// Writes the manifest, durably; it is there entirely or not at all.
    pub fn write(&self, io: &dyn WalIo, folder: &Path) -> Result<()> {
        let path = Self::path(folder, self.block);
        let temporary = path.with_extension("tmp");
        let json = Json { segments: self.segments.clone(), carried: self.carried.iter().map(TraceId::to_string).collect() };
        let json = serde_json::to_vec(&json).map_err(|e| Error::internal("cannot encode a manifest").with_source(e))?;
        let mut bytes = segment::file_header().to_vec();
        segment::frame(&mut bytes, &json);
        let written = (|| {
            let mut file = io.create(&temporary)?;
            file.append(&bytes)?;
            file.sync()?;
            io.rename(&temporary, &path)?;
            io.sync_folder(folder)
        })();
        written.map_err(|e| {
            std::fs::remove_file(&temporary).ok();
            std::fs::remove_file(&path).ok();
            failed("write", &path, e)
        })
    }

    /// Reads the manifest of a block. Fails with `Data` if it is damaged.
    pub fn read(folder: &Path, block: Uuid) -> Result<Self> {
        let path = Self::path(folder, block);
        let bytes = std::fs::read(&path).map_err(|e| Error::from(e).context(format!("cannot read {}", path.display())))?;
        let damaged = || Error::data(format!("{} is damaged", path.display()));
        let (Header::Good, Some(Item::Record(payload))) = (segment::check_header(&bytes), Records::new(&bytes).next()) else {
            return Err(damaged());
        };
        let json: Json = serde_json::from_slice(payload).map_err(|e| damaged().with_source(e))?;
        let carried = json.carried.iter().map(|id| id.parse()).collect::<Result<_>>()?;
        Ok(Self { block, segments: json.segments, carried })
    }
}
