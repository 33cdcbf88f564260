//! Errors as RFC 9457 problem details: one stable code each.

use std::borrow::Cow;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// The stable codes of errors, which are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the code as text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns the HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// Returns a short title.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Returns the description for the page of codes.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc, "\n",)+),)+ }
            }
        }
    };
}

codes! {
    /// The body is not JSON; `detail` has line and column.
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not JSON";
    /// The body is not a form, or lacks a field that it must have.
    MalformedForm = "malformed_form", BAD_REQUEST, "The body is not the form it should be";
    /// The body is not UTF-8; `detail` has the position of the first bad byte.
    InvalidUtf8 = "invalid_utf8", BAD_REQUEST, "The body is not UTF-8";
    /// The log filter is invalid; `errors` has the directive. A filter is a level (`info`), or levels of modules
    /// (`info,agentry_bus=debug`).
    BadLogFilter = "bad_log_filter", BAD_REQUEST, "Not a log filter";
    /// An id in the path is malformed.
    InvalidId = "invalid_id", BAD_REQUEST, "Malformed id";
    /// The body was not received completely.
    IncompleteBody = "incomplete_body", BAD_REQUEST, "The body did not arrive";
    /// A key is required, and the request has no valid one.
    Unauthorized = "unauthorized", UNAUTHORIZED, "A key is needed";
    /// The key lacks the scope that the route requires.
    ScopeMissing = "scope_missing", FORBIDDEN, "The key does not allow this";
    /// A write with a session cookie lacks the CSRF token.
    CsrfRefused = "csrf_refused", FORBIDDEN, "The write did not come from the dashboard";
    /// A page of another site tried to change something.
    OriginRefused = "origin_refused", FORBIDDEN, "The write came from another site";
    /// `Host` does not name this machine, and the server listens on this machine only.
    HostRefused = "host_refused", MISDIRECTED_REQUEST, "The host is not this server";
    /// The key's rate is used up: try again after `Retry-After`.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// No API key has this id.
    UnknownKey = "unknown_key", NOT_FOUND, "No such key";
    /// The key is revoked or has expired.
    KeyEnded = "key_ended", CONFLICT, "The key has ended";
    /// Without this key nobody could manage keys.
    LastAdminKey = "last_admin_key", CONFLICT, "The last key with the scope admin";
    /// No report has this name.
    UnknownReport = "unknown_report", NOT_FOUND, "No such report";
    /// The body is JSON but not what the route takes: an unknown, missing or out-of-bounds field.
    InvalidRequest = "invalid_request", UNPROCESSABLE_ENTITY, "The request cannot be carried out";
    /// A query parameter is unknown or has a bad value.
    InvalidQuery = "invalid_query", UNPROCESSABLE_ENTITY, "The query cannot be understood";
    /// The body's `Content-Type` is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Send JSON";
    /// The body is larger than the server takes.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// There is no such route.
    RouteNotFound = "route_not_found", NOT_FOUND, "No such route";
    /// The route exists but not with this method; `Allow` has those it takes.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route does not take this method";
    /// No agent of the fleet has this name.
    UnknownAgent = "unknown_agent", NOT_FOUND, "No such agent";
    /// The agent's file has no valid version; `detail` has its error.
    AgentInvalid = "agent_invalid", CONFLICT, "The agent's file is invalid";
    /// The agent's file says `enabled: false`.
    AgentDisabled = "agent_disabled", CONFLICT, "The agent is disabled";
    /// No task has this id.
    UnknownTask = "unknown_task", NOT_FOUND, "No such task";
    /// The task has ended and cannot be cancelled.
    TaskEnded = "task_ended", CONFLICT, "The task has ended";
    /// No session has this id.
    UnknownSession = "unknown_session", NOT_FOUND, "No such session";
    /// The session has open tasks: cancel them or wait, then delete it.
    SessionBusy = "session_busy", CONFLICT, "The session has open tasks";
    /// No schedule has this name.
    UnknownSchedule = "unknown_schedule", NOT_FOUND, "No such schedule";
    /// A schedule of this name exists: change it with `PATCH`.
    ScheduleExists = "schedule_exists", CONFLICT, "The schedule exists";
    /// The schedule comes from an agent file: it can be paused here, anything else is changed in the file.
    ScheduleFromFile = "schedule_from_file", CONFLICT, "The schedule comes from a file";
    /// No clarification has this id.
    UnknownClarification = "unknown_clarification", NOT_FOUND, "No such clarification";
    /// The question is resolved; the first answer stands.
    ClarificationResolved = "clarification_resolved", CONFLICT, "The question has ended";
    /// No dead letter has this id.
    UnknownDeadLetter = "unknown_dead_letter", NOT_FOUND, "No such dead letter";
    /// The dead letter was already replayed or dropped.
    DeadLetterClosed = "dead_letter_closed", CONFLICT, "The dead letter is closed";
    /// The idempotency key was used for another request within 24 h.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The idempotency key was used before";
    /// A queue of the store is full: try again after `Retry-After`.
    QueueFull = "queue_full", SERVICE_UNAVAILABLE, "The queue is full";
    /// Too many requests are in flight: retry after `Retry-After`.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The server is overloaded";
    /// Too many event streams are open: close one or try again after `Retry-After`.
    TooManyStreams = "too_many_streams", SERVICE_UNAVAILABLE, "Too many streams";
    /// The store cannot be reached or cannot write: try again after `Retry-After`.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, "The store is unavailable";
    /// The request is not signed by Slack: it is forged, replayed or old, or the signing secret belongs to another app.
    SlackUnverified = "slack_unverified", UNAUTHORIZED, "Not a request of Slack";
    /// The server has no signing secret: set it, and retries of Slack succeed.
    SlackNotConfigured = "slack_not_configured", SERVICE_UNAVAILABLE, "Slack is not configured";
    /// A profile of this process is being taken: retry when it has ended.
    ProfileUnderWay = "profile_under_way", CONFLICT, "A profile is being taken";
    /// The binary was built without this feature; `detail` explains how to build one with it.
    NotBuilt = "not_built", NOT_IMPLEMENTED, "Not part of this binary";
    /// An internal error of Agentry; search the log for the trace id.
    Internal = "internal", INTERNAL_SERVER_ERROR, "A fault in Agentry";
}

/// An error of one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer to the field; empty for the whole body.
    pub pointer: String,
    /// Description of the error.
    pub detail: String,
}

/// The body of an error (RFC 9457 problem details).
// Read leniently: a proxy's problem has no code, and a newer server's code may be one that `Code` does not have.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Type: `urn:agentry:problem:` and the code.
    #[serde(rename = "type", default)]
    #[schema(required)]
    pub kind: String,
    /// Title of the code.
    #[serde(default)]
    #[schema(value_type = String, required)]
    pub title: Cow<'a, str>,
    /// HTTP status.
    #[serde(default)]
    #[schema(required)]
    pub status: u16,
    /// Cause and advice.
    #[serde(default)]
    #[schema(value_type = String, required)]
    pub detail: Cow<'a, str>,
    /// Stable code.
    #[serde(default)]
    #[schema(value_type = Code, required)]
    pub code: Cow<'a, str>,
    /// Trace id of the request, 32 hex digits.
    #[serde(default)]
    #[schema(value_type = String, required)]
    pub trace_id: Cow<'a, str>,
    /// Errors of single fields.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>)]
    pub errors: Cow<'a, [FieldError]>,
}
