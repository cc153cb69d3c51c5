//! Where the files of a block are, relative to the store: Tempo's layout, `<tenant>/<block id>/<file>`.

use object_store::path::Path;
use uuid::Uuid;

use crate::tenant::TenantId;

/// Makes a block visible.
pub const META: &str = "meta.json";
/// Says that a block is replaced.
pub const META_COMPACTED: &str = "meta.compacted.json";

/// The folder of a tenant.
pub fn tenant(tenant: &TenantId) -> Path {
    Path::from(tenant.as_str())
}

/// The folder of a block.
pub fn block(tenant: &TenantId, block: Uuid) -> Path {
    Path::from_iter([tenant.as_str(), &block.to_string()])
}

/// The traces.
pub fn data(tenant: &TenantId, block: Uuid) -> Path {
    file(tenant, block, "data.parquet")
}

/// The commit point.
pub fn meta(tenant: &TenantId, block: Uuid) -> Path {
    file(tenant, block, META)
}

/// Where Tempo's compactor moves `meta.json` when the block is replaced.
pub fn compacted_meta(tenant: &TenantId, block: Uuid) -> Path {
    file(tenant, block, META_COMPACTED)
}

/// The highest trace id of each row group.
pub fn index(tenant: &TenantId, block: Uuid) -> Path {
    file(tenant, block, "index")
}

/// One shard of the bloom filter.
pub fn bloom(tenant: &TenantId, block: Uuid, shard: u32) -> Path {
    file(tenant, block, &format!("bloom-{shard}"))
}

/// What completion asks of a block; only blocks that this project wrote have it.
pub fn vocabulary(tenant: &TenantId, block: Uuid) -> Path {
    file(tenant, block, crate::block::vocabulary::FILE_NAME)
}

fn file(tenant: &TenantId, block: Uuid, name: &str) -> Path {
    Path::from_iter([tenant.as_str(), &block.to_string(), name])
}
