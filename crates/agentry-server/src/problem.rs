//! Errors as RFC 9457 problem details, each with a stable code, the object it concerns and advice.

use std::borrow::Cow;
use std::time::Duration;

use agentry_store::StoreError;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

pub use agentry_api::{Code, FieldError, PROBLEM_JSON, ProblemBody};

/// An error response. The frame of the endpoint renders its body, because it knows the trace id.
#[derive(Debug, Clone)]
pub struct ApiProblem {
    /// The stable code.
    pub code: Code,
    /// The cause and advice.
    pub detail: Cow<'static, str>,
    /// The errors of single fields.
    pub errors: Vec<FieldError>,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// The result of a handler.
pub type ApiResult<T = Response> = Result<T, ApiProblem>;

impl ApiProblem {
    /// Returns a problem with this code and detail.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// Returns the problem of an invalid field.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        let mut problem = Self::new(Code::InvalidRequest, format!("`{}`: {detail}", pointer.trim_start_matches('/')));
        problem.errors.push(FieldError { pointer, detail });
        problem
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the body, with this trace id.
    #[must_use]
    pub fn body<'a>(&'a self, trace_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            kind: format!("urn:agentry:problem:{}", self.code.as_str()),
            title: self.code.title().into(),
            status: self.code.status().as_u16(),
            detail: (&*self.detail).into(),
            code: self.code.as_str().into(),
            trace_id: trace_id.into(),
            errors: (&*self.errors).into(),
        }
    }

    /// Returns the response; headers of `frame`, such as `Allow`, are kept.
    #[must_use]
    pub fn render(&self, frame: Response, trace_id: &str) -> Response {
        let (mut parts, _) = frame.into_parts();
        parts.status = self.code.status();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.code == Code::Unauthorized {
            parts.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"agentry\""));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: earlier would be refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            parts.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        let body = serde_json::to_vec(&self.body(trace_id)).unwrap_or_default();
        Response::from_parts(parts, Body::from(body))
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiProblem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full { retry_after, .. } => {
                let after = *retry_after;
                Self::new(Code::QueueFull, error.to_string()).retry_after(after)
            }
            StoreError::Unavailable(_) => {
                Self::new(Code::StoreUnavailable, error.to_string()).retry_after(Duration::from_secs(1))
            }
            StoreError::Fenced | StoreError::Broken(_) => {
                tracing::error!(%error, "the store failed");
                Self::new(Code::Internal, "the store failed; the log has the reason")
            }
        }
    }
}

/// Returns `; did you mean …?` when one of `known` is close to `word`, else nothing.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    // 0.8 keeps one typo in a short word and two in a longer one.
    let best = known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_code_is_its_serde_name_and_codes_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(seen.insert(code.as_str()));
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(!code.doc().trim().is_empty());
        }
    }

    #[test]
    fn typos_are_recognised_and_strangers_are_not() {
        let known = ["support", "triage"];
        assert_eq!(did_you_mean("suport", known.into_iter()), "; did you mean `support`?");
        assert_eq!(did_you_mean("xyz", known.into_iter()), "");
    }
}
