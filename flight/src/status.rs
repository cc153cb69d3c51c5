//! Errors as gRPC statuses, by the one table in `ErrorKind`.

use tonic::{Code, Status};
use tracehouse_engine::error::{Error, ErrorKind};

/// Longest text of a status in bytes: it travels in an HTTP/2 header, which clients bound.
const TEXT_BYTES_MAX: usize = 4096;

/// The status of an error. What an operator must look at is logged here, where it leaves the house.
pub fn status(error: impl Into<Error>) -> Status {
    let error = error.into();
    if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Data) {
        tracing::error!(%error, "Flight call failed");
    }
    let mut text = error.to_string();
    if text.len() > TEXT_BYTES_MAX {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(end);
        text.push_str(" ...");
    }
    Status::new(Code::from_i32(error.kind().grpc_code()), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_codes_and_texts_stay_short() {
        let given = status(Error::invalid("é".repeat(5000)));
        assert_eq!(given.code(), Code::InvalidArgument);
        assert!(given.message().len() <= TEXT_BYTES_MAX + 4);
        assert_eq!(status(Error::new(ErrorKind::Unauthenticated, "x")).code(), Code::Unauthenticated);
    }
}
