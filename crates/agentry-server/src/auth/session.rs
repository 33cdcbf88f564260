//! Sessions of the dashboard: a random token in a cookie, whose SHA-256 is in the store.
//!
//! Any replica finds a session by that hash, and no cookie can be derived from the stored data. Writes must carry a second
//! value, an HMAC keyed with the token: other sites can make a browser send the cookie, but cannot read that value. The
//! store cannot derive it either.

use agentry_core::access::{ApiKey, BrowserSession, KeyHash};
use agentry_core::time::Timestamp;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRngCore as _;
use rand::rand_core::OsError;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};

/// The cookie's name.
const COOKIE: &str = "agentry_session";
/// The lifetime of a session: a working day.
pub(crate) const LIFE: std::time::Duration = std::time::Duration::from_secs(12 * 3_600);
/// Bytes of a token: 256 random bits cannot be guessed.
const TOKEN_BYTES: usize = 32;

/// The secret of a session, as in its cookie.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; TOKEN_BYTES]);

/// Returns a new session of a key and its token, which is stored in the cookie only.
///
/// # Errors
/// Fails when the operating system returns no random bytes.
pub(crate) fn open(key: &ApiKey, now: Timestamp) -> Result<(Token, BrowserSession), OsError> {
    let mut bytes = [0; TOKEN_BYTES];
    OsRng.try_fill_bytes(&mut bytes)?;
    let token = Token(bytes);
    let session = BrowserSession { hash: token.hash(), key: key.id, created_at: now, ends_at: now.after(LIFE) };
    Ok((token, session))
}

/// Returns the `Set-Cookie` that ends a session.
pub(crate) fn close(tls: bool) -> String {
    set_cookie("", 0, tls)
}

fn set_cookie(value: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

impl Token {
    /// Returns the token of a request, if it has a well-formed cookie.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let value = cookies.flat_map(|text| text.split(';')).find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE && !value.is_empty()).then_some(value)
        })?;
        URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok().map(Self)
    }

    /// Returns the `Set-Cookie` for the browser.
    pub(crate) fn cookie(&self, tls: bool) -> String {
        set_cookie(&URL_SAFE_NO_PAD.encode(self.0), LIFE.as_secs(), tls)
    }

    /// Returns the hash by which the session is looked up. As with keys, the lookup needs no constant-time comparison.
    pub(crate) fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0).into())
    }

    fn mac(&self) -> Hmac<Sha256> {
        // HMAC takes keys of any length, so this does not fail; an empty one would sign nothing that is ever checked.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut mac = mac.unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(b"csrf");
        mac
    }

    /// Returns the value that writes of this session must carry.
    pub(crate) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.mac().finalize().into_bytes())
    }

    /// Returns whether a request carries that value. The comparison takes constant time.
    pub(crate) fn carries_csrf(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get("x-csrf-token").and_then(|value| URL_SAFE_NO_PAD.decode(value.as_bytes()).ok());
        sent.is_some_and(|sent| self.mac().verify_slice(&sent).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::access::Scope;

    use super::*;
    use crate::auth::new_key;

    fn sent(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("a=b; {pair}").parse().unwrap())])
    }

    #[test]
    fn a_token_is_random_and_only_its_hash_is_in_the_session() {
        let (key, _) = new_key("a", Scope::Run, Timestamp(0), None).unwrap();
        let ((token, session), (other, _)) = (open(&key, Timestamp(5)).unwrap(), open(&key, Timestamp(5)).unwrap());
        assert!(token != other);
        assert_eq!((session.hash, session.key), (KeyHash(Sha256::digest(token.0).into()), key.id));
        assert_eq!(session.ends_at, Timestamp(5).after(LIFE));
        let read = Token::of(&sent(&token.cookie(true))).unwrap();
        assert!(read == token);
        let mut headers = HeaderMap::new();
        assert!(!token.carries_csrf(&headers));
        headers.insert("x-csrf-token", token.csrf().parse().unwrap());
        assert!(token.carries_csrf(&headers) && !other.carries_csrf(&headers));
    }

    #[test]
    fn cookies_are_strict_and_junk_is_none() {
        let (key, _) = new_key("a", Scope::Run, Timestamp(0), None).unwrap();
        let (token, _) = open(&key, Timestamp(5)).unwrap();
        let cookie = token.cookie(true);
        assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        assert!(!token.cookie(false).contains("Secure"));
        for junk in ["agentry_session=", "agentry_session=AAAA", "agentry_session=%%%", "other=1"] {
            assert!(Token::of(&sent(junk)).is_none(), "{junk}");
        }
    }
}
