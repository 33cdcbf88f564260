//! Access control: API keys with scopes, dashboard sessions, and the audit log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AuditId, KeyId};
use crate::time::Timestamp;
use crate::words::words;

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME_BYTES: usize = 64;

words! {
    /// The permissions of a key; each scope includes those before it.
    #[derive(PartialOrd, Ord)]
    pub enum Scope: "scope" {
        /// Read everything.
        Read = "read",
        /// Create and control work: tasks, sessions, schedules, answers, dead letters, events.
        Run = "run",
        /// Manage keys; read the audit log and profiles.
        Admin = "admin",
    }
}

/// The SHA-256 of a secret of 256 random bits: an API key, or the token of a session. Secrets are looked up by it and
/// cannot be derived from it; nevertheless it is not printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Returns the value as 64 hex digits, as a column keeps it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the hash of these hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// An API key as stored: everything but the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Public id of the key, used to manage it.
    pub id: KeyId,
    /// Display name.
    pub name: String,
    /// Hash that authenticates the key.
    pub hash: KeyHash,
    /// Permissions of the key.
    pub scope: Scope,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of expiry.
    pub expires_at: Option<Timestamp>,
    /// Time of the last use, accurate to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// Time of revocation.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Returns whether the key is valid at `now`.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none_or(|at| at > now) && self.expires_at.is_none_or(|at| at > now)
    }
}

/// A session of the dashboard as stored: everything but its token, which only the browser has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// The hash of its token.
    pub hash: KeyHash,
    /// The key used to sign in, whose scope the session has.
    pub key: KeyId,
    /// Time of sign-in.
    pub created_at: Timestamp,
    /// Time of expiry.
    pub ends_at: Timestamp,
}

/// A change, or an attempt to make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Id; the order of ids is their order.
    pub id: AuditId,
    /// Time of the request.
    pub at: Timestamp,
    /// The key's name, or `anybody` where no key is needed.
    pub who: String,
    /// The key, when there was one.
    pub key: Option<KeyId>,
    /// The operation: method and route template.
    pub action: String,
    /// The object: the path as it was sent.
    pub target: String,
    /// Status code of the response.
    pub status: u16,
    /// The trace of the request.
    pub trace_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_ordered() {
        assert!(Scope::Read < Scope::Run && Scope::Run < Scope::Admin);
        assert!("root".parse::<Scope>().is_err());
    }

    #[test]
    fn hashes_survive_their_hex_digits() {
        let hash = KeyHash([0xa7; 32]);
        assert_eq!(KeyHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(KeyHash::from_hex("a7"), None);
    }

    #[test]
    fn a_key_is_good_until_it_expires_or_is_revoked() {
        let key = |expires: Option<i64>, revoked: Option<i64>| ApiKey {
            id: KeyId::from_bytes([1; 16]),
            name: "ci".to_owned(),
            hash: KeyHash([7; 32]),
            scope: Scope::Run,
            created_at: Timestamp(0),
            expires_at: expires.map(Timestamp),
            last_used_at: None,
            revoked_at: revoked.map(Timestamp),
        };
        let now = Timestamp(10);
        assert!(key(None, None).is_good(now) && key(Some(11), Some(11)).is_good(now));
        assert!(!key(Some(10), None).is_good(now) && !key(None, Some(10)).is_good(now));
        assert!(!format!("{:?}", key(None, None)).contains('7'), "a hash is not printed");
    }
}
