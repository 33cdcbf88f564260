//! The text of a key: `agk_` and 256 random bits. Only its SHA-256 is kept; a hash that is slow to take is for passwords,
//! which people choose, and 256 bits cannot be guessed.

use agentry_core::access::{ApiKey, KeyHash, MAX_KEY_NAME_BYTES, Scope};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

/// What every key begins with, so that scanners of leaked secrets know it.
const PREFIX: &str = "agk_";
/// Characters of a key: the prefix and 32 bytes in base64.
const KEY_CHARS: usize = 47;

/// A new key and its text, which is shown once.
///
/// # Errors
/// A name that cannot be one, or an operating system without random bytes.
pub fn new_key(
    name: &str,
    scope: Scope,
    now: Timestamp,
    expires_at: Option<Timestamp>,
) -> Result<(ApiKey, SecretString), String> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_KEY_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!("a key's name has 1 to {MAX_KEY_NAME_BYTES} bytes and no control characters"));
    }
    let mut bytes = [0u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| format!("the operating system gives no random bytes: {error}"))?;
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

/// Whether a text can be a key at all; what cannot costs no look into the store.
pub(crate) fn looks_like_one(text: &str) -> bool {
    text.len() == KEY_CHARS && text.starts_with(PREFIX) && text.is_ascii()
}

/// The hash that a key is found by. Finding by hash needs no comparison in constant time: who can time the look-up
/// learns about the hash, from which no key follows.
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
        assert!(looks_like_one(text.expose_secret()) && !looks_like_one("agk_short"));
        assert!(new_key("", Scope::Run, Timestamp(1), None).is_err());
        assert!(new_key("a\nb", Scope::Run, Timestamp(1), None).is_err());
    }
}
