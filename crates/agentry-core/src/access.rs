//! Who may do what: keys with a scope, the dashboard's sessions, and the log of what was changed by whom.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AuditId, KeyId};
use crate::time::Timestamp;

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME_BYTES: usize = 64;

/// What a key allows; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything.
    Read = 0,
    /// Give work and steer it: tasks, sessions, schedules, answers, dead letters, events.
    Run = 1,
    /// Keys, the audit log, profiles.
    Admin = 2,
}

impl Scope {
    /// Every scope, the smallest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Run, Self::Admin];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }

    /// The scope with this number, as a column keeps it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| *scope as u8 == number)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("unknown scope `{text}`: expected read, run or admin"))
    }
}

/// The SHA-256 of a secret of 256 random bits: of a key's text, or of a session's token. It is what a secret is found by;
/// the secret does not follow from it. It is not printed all the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// It as 64 hex digits, as a column keeps it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The hash of these hex digits.
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

/// An API key as it is kept: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called by those who manage keys.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// What proves it.
    pub hash: KeyHash,
    /// What it allows.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is good at `now`.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none_or(|at| at > now) && self.expires_at.is_none_or(|at| at > now)
    }
}

/// A session of the dashboard as it is kept: everything but its token, which only the browser has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// The hash of its token.
    pub hash: KeyHash,
    /// The key that it was opened with, whose scope it has.
    pub key: KeyId,
    /// When it was opened.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub ends_at: Timestamp,
}

/// One change, or a try to make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its id; the order of ids is their order.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// The key's name, or `anybody` where no key is needed.
    pub who: String,
    /// The key, when there was one.
    pub key: Option<KeyId>,
    /// What was asked: method and route template.
    pub action: String,
    /// On what: the path as it was sent.
    pub target: String,
    /// The status that was answered.
    pub status: u16,
    /// The trace of the request.
    pub trace_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_ordered_and_named() {
        assert!(Scope::Read < Scope::Run && Scope::Run < Scope::Admin);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(Scope::from_number(scope as u8), Some(scope));
        }
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
