//! Why a name could not be resolved, under nginx's numbers and in its words.
//!
//! nginx logs `NAME could not be resolved (NUMBER: WORDS)`; [`ResolveError::code`] and `Display` give the two.

/// Why a name could not be resolved (`ngx_resolver_strerror`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ResolveError {
    /// The server did not understand the query.
    #[error("Format error")]
    FormatError,
    /// The server failed.
    #[error("Server failure")]
    ServerFailure,
    /// There is no such name, or it has no address.
    #[error("Host not found")]
    NotFound,
    /// The server does not answer such queries.
    #[error("Unimplemented")]
    Unimplemented,
    /// The server does not want to answer.
    #[error("Operation refused")]
    Refused,
    /// No answer within the time.
    #[error("Operation timed out")]
    TimedOut,
}

impl ResolveError {
    /// The number that nginx logs: the RCODE of RFC 1035, or `ETIMEDOUT` of Linux.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NotFound => 3,
            Self::Unimplemented => 4,
            Self::Refused => 5,
            Self::TimedOut => 110,
        }
    }

    /// The error of an RCODE; `None` for zero (no error) and for the codes that nginx does not know.
    #[must_use]
    pub fn from_rcode(rcode: u8) -> Option<Self> {
        match rcode {
            1 => Some(Self::FormatError),
            2 => Some(Self::ServerFailure),
            3 => Some(Self::NotFound),
            4 => Some(Self::Unimplemented),
            5 => Some(Self::Refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ResolveError;

    #[test]
    fn codes_are_rcodes() {
        for rcode in 1..=5u8 {
            let error = ResolveError::from_rcode(rcode);
            assert_eq!(error.map(ResolveError::code), Some(u32::from(rcode)));
        }
        assert_eq!(ResolveError::from_rcode(0), None);
        assert_eq!(ResolveError::from_rcode(6), None);
        assert_eq!(ResolveError::TimedOut.to_string(), "Operation timed out");
    }
}
