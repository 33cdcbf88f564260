//! `/v1/keys`, `/v1/audit` and `/v1/me`: who may do what, and who did what.

use agentry_core::access::{AuditEntry, Scope};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A key without the key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// `read`, `run` or `admin`; each includes those before it.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// Whether it is good now.
    pub active: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was or will be revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// All keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys, oldest first; revoked ones are listed for 90 days.
    pub items: Vec<KeyView>,
}

/// A key to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What people call it: 1 to 64 bytes.
    pub name: String,
    /// `read`, `run` or `admin`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// After how many days it is refused, 1 to 3,650; never when absent.
    pub expires_days: Option<u32>,
}

/// A key that was made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyMade {
    /// The key. It is shown here and never again.
    pub key: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: KeyView,
}

/// A line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// `id`, `at`, `who`, `key`, `action`, `target`, `status`, `trace_id`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub entry: AuditEntry,
}

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Whether this server asks for a key.
    pub required: bool,
    /// Whether the request brought a good key or session.
    pub signed_in: bool,
    /// The key's name.
    pub name: Option<String>,
    /// What the caller may do; absent when nothing.
    #[schema(value_type = Option<String>)]
    pub scope: Option<Scope>,
    /// What writes of this session carry as `X-CSRF-Token`.
    pub csrf: Option<String>,
}
