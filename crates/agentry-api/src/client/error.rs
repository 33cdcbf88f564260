//! Errors of calls.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::problem::{Code, ProblemBody};

/// An error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of the server is invalid.
    #[error("{0}")]
    InvalidUrl(String),
    /// The HTTP client cannot be created.
    #[error("cannot set up HTTP: {0}")]
    Setup(String),
    /// No connection could be opened.
    #[error("cannot reach {base}: {cause}")]
    Unreachable {
        /// The server.
        base: String,
        /// The innermost cause.
        cause: String,
    },
    /// No response in time.
    #[error("{base} did not answer in time")]
    TimedOut {
        /// The server.
        base: String,
    },
    /// A connection was lost before the response was complete.
    #[error("the {what} {base} broke: {cause}")]
    Broken {
        /// `connection to` or `stream from`.
        what: &'static str,
        /// The server.
        base: String,
        /// The innermost cause.
        cause: String,
    },
    /// The response is not from an Agentry server.
    #[error("{base} answered {what}")]
    Foreign {
        /// The server.
        base: String,
        /// The status, or the error of the body.
        what: String,
    },
    /// The server refused the request.
    #[error("{0}")]
    Refused(Box<ApiRefusal>),
}

/// A refusal: the problem details of RFC 9457, and the time until a retry.
#[derive(Debug, Clone)]
pub struct ApiRefusal {
    /// The problem, with the status of the response.
    pub problem: ProblemBody<'static>,
    /// The time until a retry.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for ApiRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProblemBody { title, detail, code, .. } = &self.problem;
        f.write_str(if detail.is_empty() { title } else { detail })?;
        if code.is_empty() { Ok(()) } else { write!(f, " ({code})") }
    }
}

impl Error {
    /// Returns the refusal, when it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&ApiRefusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// Returns whether the server refused with this code.
    #[must_use]
    pub fn is(&self, code: Code) -> bool {
        self.refusal().is_some_and(|refusal| refusal.problem.code == code.as_str())
    }

    /// Returns what an unsuccessful response says.
    pub(super) fn of_response(base: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut problem: ProblemBody<'static> = serde_json::from_slice(body).unwrap_or_default();
        if problem.detail.is_empty() && problem.title.is_empty() {
            return Self::Foreign { base: base.to_owned(), what: status.to_string() };
        }
        problem.status = status.as_u16();
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Refused(Box::new(ApiRefusal { problem, retry_after: seconds.map(Duration::from_secs) }))
    }

    /// Returns what became of a connection.
    pub(super) fn of_connection(base: &str, error: &reqwest::Error) -> Self {
        let (base, cause) = (base.to_owned(), innermost(error));
        match error {
            _ if error.is_connect() => Self::Unreachable { base, cause },
            _ if error.is_timeout() => Self::TimedOut { base },
            _ => Self::Broken { what: "connection to", base, cause },
        }
    }
}

/// Returns an error's innermost cause: the layers above only repeat the address.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn problems_keep_their_words_and_code() {
        let of = |status, body: &[u8]| Error::of_response("http://h", status, &HeaderMap::new(), body);
        let body = json!({"title": "Not found", "detail": "no agent is called `x`", "code": "agent_unknown"});
        let error = of(StatusCode::NOT_FOUND, body.to_string().as_bytes());
        assert_eq!(error.to_string(), "no agent is called `x` (agent_unknown)");
        assert_eq!(error.refusal().map(|refusal| refusal.problem.status), Some(404));
        assert!(of(StatusCode::BAD_GATEWAY, b"").to_string().contains("http://h answered 502"));
    }
}
