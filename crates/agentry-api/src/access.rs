//! `/v1/keys`, `/v1/audit` and `/v1/me`: API keys, the audit log and the caller.

use agentry_core::access::{AuditEntry, Scope};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An API key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyView {
    /// Id of the key.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// Name of the key.
    pub name: String,
    /// Scope: `read`, `run` or `admin`; each includes the previous ones.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// True if it is valid now.
    pub active: bool,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the last use, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Time of expiry.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Time of revocation, which may be in the future after a rotation.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// An API key to create.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Name of the key, 1 to 64 bytes.
    pub name: String,
    /// Scope: `read`, `run` or `admin`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// Days until expiry, 1 to 3,650. Default: never.
    pub expires_days: Option<u32>,
}

/// An API key that was created.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyMade)]
pub struct CreatedKey {
    /// Secret of the key, which is shown only once.
    pub key: String,
    /// The stored key.
    #[serde(flatten)]
    pub view: KeyView,
}

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// The fields `id`, `at`, `who`, `key`, `action`, `target`, `status` and `trace_id`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub entry: AuditEntry,
}

/// The caller of a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Me)]
pub struct CallerView {
    /// True if the server requires a key.
    pub required: bool,
    /// True if the request has a valid key or session.
    pub signed_in: bool,
    /// Name of the key.
    pub name: Option<String>,
    /// Scope of the caller; absent without access.
    #[schema(value_type = Option<String>)]
    pub scope: Option<Scope>,
    /// Value of `X-CSRF-Token` for writes of the session.
    pub csrf: Option<String>,
}
