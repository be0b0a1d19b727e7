//! Statuses of gRPC, and what they and those of HTTP are to each other.

use http::{HeaderMap, StatusCode};

/// Those that the gate has a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Status {
    pub fn number(self) -> u16 {
        self as u16
    }

    /// What an HTTP status means to a gRPC client (http-grpc-status-mapping.md of the gRPC project).
    pub fn of_http(status: StatusCode) -> Status {
        match status.as_u16() {
            400 => Status::Internal,
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 => Status::Unimplemented,
            429 | 502..=504 => Status::Unavailable,
            _ => Status::Unknown,
        }
    }
}

/// The status in a head that is the whole answer, or in trailers.
pub fn of(headers: &HeaderMap) -> Option<u16> {
    headers.get(&super::GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// What a server's status would be in HTTP, where retries and the judges of servers go by those: as google.rpc.Code
/// has it and Envoy does, but for two that a client can bring about at will. DEADLINE_EXCEEDED is 408 and UNIMPLEMENTED
/// is 404, where they would be 504 and 501: neither says that the server is not well.
pub fn as_http(status: u16) -> u16 {
    match status {
        0 => 200,
        // CANCELLED
        1 => 499,
        // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
        3 | 9 | 11 => 400,
        // DEADLINE_EXCEEDED
        4 => 408,
        // NOT_FOUND, UNIMPLEMENTED
        5 | 12 => 404,
        // ALREADY_EXISTS, ABORTED
        6 | 10 => 409,
        // PERMISSION_DENIED
        7 => 403,
        // RESOURCE_EXHAUSTED
        8 => 429,
        // UNAVAILABLE
        14 => 503,
        // UNAUTHENTICATED
        16 => 401,
        // UNKNOWN, INTERNAL, DATA_LOSS, and what there may be one day
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (http, grpc) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (413, 2),
            (500, 2),
        ] {
            assert_eq!(Status::of_http(StatusCode::from_u16(http).unwrap()).number(), grpc, "{http}");
        }
        let all: Vec<_> = (0..=17).map(as_http).collect();
        assert_eq!(
            all,
            [200, 499, 500, 400, 408, 404, 409, 403, 429, 400, 409, 400, 404, 500, 503, 500, 401, 500]
        );
    }
}
