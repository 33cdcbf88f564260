//! The audit log, and the security headers of every response.

use agentry_core::access::AuditEntry;
use agentry_core::id::AuditId;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Principal;
use crate::state::AppState;

/// The longest stored path, in characters.
const MAX_TARGET: usize = 300;

/// Writes an entry before the caller gets the response; if the store fails, the entry goes to the log instead.
pub(crate) async fn write(
    state: &AppState,
    who: Option<&Principal>,
    action: String,
    path: &str,
    status: u16,
    trace: String,
) {
    let entry = AuditEntry {
        id: AuditId::generate(),
        at: state.now(),
        who: who.map_or_else(|| "nobody".to_owned(), |caller| caller.name.clone()),
        key: who.and_then(|caller| caller.key),
        action,
        target: path.chars().take(MAX_TARGET).collect(),
        status,
        trace_id: trace,
    };
    if let Err(error) = state.store().audit(&entry).await {
        tracing::error!(%error, who = entry.who, action = entry.action, target = entry.target, status, "writing an entry of the audit log failed");
    }
}

/// Headers that restrict what a browser does with a response.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Sets the security headers.
pub(crate) fn set_security_headers(headers: &mut HeaderMap, tls: bool) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    // A response that is no page must not be rendered as one.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}
