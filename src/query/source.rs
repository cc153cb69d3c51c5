//! Opens what a question is about: a data folder, a folder of tenants, or a bucket.

use std::{path::Path, sync::Arc};

use tracehouse_engine::{Engine, TenantId, config::Config as EngineConfig, store::BlockStore};

use crate::{
    cli::SourceArgs,
    config,
    error::{Error, Result},
    roles,
};

/// An engine over the source, with its blocks listed, and the tenant that is asked about.
pub async fn open(args: &SourceArgs) -> Result<(Arc<Engine>, TenantId)> {
    let location = &args.data_dir;
    let (store, data_dir) = match local(location)? {
        Some(Local::DataFolder(dir)) => (BlockStore::open_local(&dir.join(roles::BLOCKS), false)?, Some(dir)),
        Some(Local::Tenants(dir)) => (BlockStore::open_local(dir, false)?, None),
        None => (BlockStore::open(location, store_options())?, None),
    };
    let mut engine = Engine::new(store, EngineConfig::default());
    if let Some(dir) = data_dir {
        engine = roles::with_unflushed(engine, dir).await?;
    }
    let engine = Arc::new(engine);
    engine.poll().await.map_err(|e| e.context(format!("cannot list {location}")))?;
    let tenant = choose(args.tenant.as_deref(), &engine.tenants(), location)?;
    Ok((engine, tenant))
}

#[derive(Debug, PartialEq, Eq)]
enum Local<'a> {
    /// A folder that `serve` keeps: the blocks are below `blocks/`.
    DataFolder(&'a Path),
    /// A folder of tenants, such as Tempo's own.
    Tenants(&'a Path),
}

/// What a local location is; `None` for a URL.
fn local(location: &str) -> Result<Option<Local<'_>>> {
    if location.contains("://") {
        return Ok(None);
    }
    let path = Path::new(location);
    if !path.is_dir() {
        let why = if path.exists() { "is not a folder" } else { "does not exist" };
        return Err(Error::failed(format!(
            "{location} {why}: give --data-dir a data folder of `tracehouse serve`, a folder of Tempo's blocks, or a URL such as s3://bucket/prefix"
        )));
    }
    Ok(Some(if path.join(roles::BLOCKS).is_dir() { Local::DataFolder(path) } else { Local::Tenants(path) }))
}

/// Settings of object stores from the usual variables.
fn store_options() -> impl Iterator<Item = (String, String)> {
    config::environment()
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, _)| ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix)))
}

/// The tenant that was asked for, or the one there is.
fn choose(asked: Option<&str>, there: &[TenantId], location: &str) -> Result<TenantId> {
    let list = || there.iter().map(TenantId::as_str).collect::<Vec<_>>().join(", ");
    let tenant = match (asked, there) {
        (Some(name), _) => name.parse().map_err(|e| Error::usage(format!("--tenant: {e}")))?,
        (None, [only]) => only.clone(),
        (None, _) => TenantId::single(),
    };
    match there {
        [] => Err(Error::failed(format!("there are no blocks in {location}: it must hold <tenant>/<block>/meta.json"))),
        _ if there.contains(&tenant) => Ok(tenant),
        _ if asked.is_some() => Err(Error::failed(format!("no tenant {tenant} in {location}: there are {}", list()))),
        _ => Err(Error::usage(format!("{location} has several tenants: choose one with --tenant: {}", list()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_asked_for_or_the_only_one() {
        let tenants = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<TenantId>>();
        let chosen = |asked, there: &[&str]| choose(asked, &tenants(there), "here").map(|t| t.to_string()).map_err(|e| e.to_string());
        assert_eq!(chosen(None, &["a"]).as_deref(), Ok("a"));
        assert_eq!(chosen(None, &["a", "single-tenant"]).as_deref(), Ok("single-tenant"));
        assert_eq!(chosen(Some("b"), &["a", "b"]).as_deref(), Ok("b"));
        assert!(chosen(None, &["a", "b"]).unwrap_err().contains("--tenant: a, b"));
        assert!(chosen(Some("c"), &["a", "b"]).unwrap_err().contains("there are a, b"));
        assert!(chosen(None, &[]).unwrap_err().contains("no blocks"));
        assert!(chosen(Some("a/b"), &["a"]).is_err());
    }

    #[test]
    fn locations_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(local(path).unwrap(), Some(Local::Tenants(dir.path())));
        std::fs::create_dir(dir.path().join("blocks")).unwrap();
        assert_eq!(local(path).unwrap(), Some(Local::DataFolder(dir.path())));
        assert_eq!(local("s3://bucket/x").unwrap(), None);
        assert!(local(&format!("{path}/missing")).unwrap_err().to_string().contains("does not exist"));
    }
}
