//! Tenant ids: whose data this is. A tenant id is also the name of a folder in the block store.

use std::{fmt, str::FromStr, sync::Arc};

use crate::error::Error;

/// A validated tenant id (Tempo's rule: at most 150 bytes of `A-Za-z0-9!-_.*'()`, not `.` or `..`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of a server that is not multi-tenant; Tempo's name for it.
    pub const SINGLE: &'static str = "single-tenant";

    /// The tenant of a server that is not multi-tenant.
    pub fn single() -> Self {
        Self(Self::SINGLE.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"!-_.*'()".contains(&b);
        match s {
            "" => Err(Error::invalid("tenant id is empty: send one in X-Scope-OrgID")),
            "." | ".." => Err(Error::invalid(format!("tenant id {s:?} is not allowed"))),
            _ if s.len() > 150 => Err(Error::invalid("tenant id is longer than 150 bytes")),
            _ if !s.bytes().all(legal) => Err(Error::invalid(format!("tenant id {s:?} may hold only letters, digits and !-_.*'()"))),
            _ => Ok(Self(s.into())),
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

/// Header (HTTP) or metadata key (gRPC, Flight) that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// Whether requests name their tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// Every request is for [`TenantId::SINGLE`]; the header is ignored (Tempo's `multitenancy_enabled: false`).
    #[default]
    Single,
    /// Every request must name its tenant in [`TENANT_HEADER`].
    FromHeader,
}

impl Tenancy {
    /// The tenant of a request with this header.
    pub fn resolve(self, header: Option<&str>) -> Result<TenantId, Error> {
        match (self, header) {
            (Self::Single, _) => Ok(TenantId::single()),
            (Self::FromHeader, Some(name)) => name.parse(),
            (Self::FromHeader, None) => Err(Error::new(crate::ErrorKind::Unauthenticated, "no org id: send the tenant in X-Scope-OrgID")),
        }
    }
}
