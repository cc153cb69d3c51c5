//! Errors of the process: what is printed on stderr, and the exit code.

use thiserror::Error;

/// Why a command ended early.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line or the configuration is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] tracehouse_engine::Error),
    /// An error of Arrow, while an answer is written.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// Input or output.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<datafusion::error::DataFusionError> for Error {
    /// The engine knows its own errors again inside DataFusion's.
    fn from(e: datafusion::error::DataFusionError) -> Self {
        Self::Engine(e.into())
    }
}

impl Error {
    /// A failure with a text: lower case, names the thing and the remedy.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// A wrong command line or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
