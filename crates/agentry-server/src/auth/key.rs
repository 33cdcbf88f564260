//! The text of an API key: `agk_` and 256 random bits. Only its SHA-256 is stored: slow hashes are for passwords, which
//! people choose, and 256 random bits cannot be guessed.

use agentry_core::access::{ApiKey, KeyHash, MAX_KEY_NAME_BYTES, Scope};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rand_core::OsError;
use rand::rngs::OsRng;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

/// The prefix of every key, which scanners for leaked secrets recognise.
const PREFIX: &str = "agk_";
/// Characters of a key: the prefix and 32 bytes in base64.
const KEY_CHARS: usize = 47;

/// The error when a key or a session cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// The name is empty, too long, or has control characters.
    #[error("a key's name has 1 to {MAX_KEY_NAME_BYTES} bytes and no control characters")]
    Name,
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes: {0}")]
    Random(#[from] OsError),
}

/// Returns a new key and its text, which is shown once.
///
/// # Errors
/// Fails when the name is invalid or the operating system returns no random bytes.
pub fn new_key(
    name: &str,
    scope: Scope,
    now: Timestamp,
    expires_at: Option<Timestamp>,
) -> Result<(ApiKey, SecretString), NewKeyError> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_KEY_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(NewKeyError::Name);
    }
    let mut bytes = [0u8; 32];
    OsRng.try_fill_bytes(&mut bytes)?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let key = ApiKey {
        id: KeyId::generate(),
        name: name.to_owned(),
        hash: hash_of(&text),
        scope,
        created_at: now,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    Ok((key, text.into()))
}

/// Returns whether a text has the form of a key; others are refused without asking the store.
pub(crate) fn is_well_formed(text: &str) -> bool {
    text.len() == KEY_CHARS && text.starts_with(PREFIX) && text.is_ascii()
}

/// Returns the hash by which a key is looked up. The lookup needs no constant-time comparison: its timing reveals
/// only the hash, from which the key cannot be derived.
#[must_use]
pub fn hash_of(text: &str) -> KeyHash {
    KeyHash(Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn keys_differ_are_recognised_and_named() {
        let (first, text) = new_key(" ci ", Scope::Run, Timestamp(1), None).unwrap();
        let (second, _) = new_key("ci", Scope::Run, Timestamp(1), None).unwrap();
        assert_eq!((first.name.as_str(), first.hash), ("ci", hash_of(text.expose_secret())));
        assert_ne!(first.hash, second.hash);
        assert!(is_well_formed(text.expose_secret()) && !is_well_formed("agk_short"));
        assert!(new_key("", Scope::Run, Timestamp(1), None).is_err());
        assert!(new_key("a\nb", Scope::Run, Timestamp(1), None).is_err());
    }
}
