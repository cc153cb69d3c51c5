//! Errors of the engine, told apart by what the caller should do about them.

use std::fmt;

/// What the caller should do. Every crate's edge maps its errors onto these; this is the one table to HTTP and gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: change it.
    Invalid,
    /// No credentials or no tenant: send them.
    Unauthenticated,
    /// What was asked for does not exist.
    NotFound,
    /// The request is right but understood by no code yet: use something else.
    Unsupported,
    /// The body or the answer is over a limit: ask for less.
    TooLarge,
    /// Too many requests or too much memory asked for: try again later.
    TooMany,
    /// It took longer than it may: ask for less.
    TimedOut,
    /// Not ready, shutting down, or a store that does not answer: try again.
    Unavailable,
    /// Stored data is corrupt or of an unknown version: an operator must look.
    Data,
    /// A bug or a broken invariant.
    Internal,
}

impl ErrorKind {
    /// HTTP status code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid | Self::Unsupported => 400,
            Self::Unauthenticated => 401,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::TooMany => 429,
            Self::Unavailable => 503,
            Self::TimedOut => 504,
            Self::Data | Self::Internal => 500,
        }
    }

    /// gRPC status code (numbers of `google.rpc.Code`).
    pub fn grpc_code(self) -> i32 {
        match self {
            Self::Invalid => 3,
            Self::TimedOut => 4,
            Self::NotFound => 5,
            Self::TooLarge | Self::TooMany => 8,
            Self::Unsupported => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Data => 15,
            Self::Unauthenticated => 16,
        }
    }
}

/// An error of the engine: what happened, and what kind it is.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; the text is lower case, without a full stop, and names the field and the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Stored data is corrupt: name the block and the column.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// The caller's input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A broken invariant.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Keeps what caused this error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what was being done; the kind stays.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, "input/output failed").with_source(e)
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        let kind = match &e {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, "object store").with_source(e)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Self::data("parquet").with_source(e)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::internal("arrow").with_source(e)
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(e: Error) -> Self {
        datafusion::error::DataFusionError::External(Box::new(e))
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(e: datafusion::error::DataFusionError) -> Self {
        let kind = kind_of(&e);
        match e.find_root() {
            // Operators wrap an error once for each level it passes; what happened is said at the root.
            datafusion::error::DataFusionError::External(inner) => Self::new(kind, inner.to_string()),
            _ => Self::new(kind, e.strip_backtrace()),
        }
    }
}

/// The kind of a DataFusion error: that of the engine error inside it, or one read off its variant.
pub fn kind_of(e: &datafusion::error::DataFusionError) -> ErrorKind {
    use datafusion::error::DataFusionError as D;
    match e.find_root() {
        D::External(inner) => inner.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind),
        D::SQL(..) | D::Plan(_) | D::SchemaError(..) | D::Configuration(_) => ErrorKind::Invalid,
        D::Execution(_) | D::ArrowError(..) => ErrorKind::Invalid,
        D::NotImplemented(_) => ErrorKind::Unsupported,
        D::ResourcesExhausted(_) => ErrorKind::TooMany,
        D::ParquetError(_) => ErrorKind::Data,
        D::ObjectStore(_) | D::IoError(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
