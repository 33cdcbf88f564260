//! Sessions of the dashboard: a cookie that any replica can check without having seen it before.
//!
//! The cookie says which key opened it and until when, signed with the key's hash, which only the store and the servers
//! know. Revoking the key ends its sessions; nothing has to be kept for them. A second signature over the cookie is the
//! token that writes must carry: other sites can make a browser send the cookie, but cannot read the token.

use agentry_core::access::{ApiKey, KeyHash};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The cookie's name.
const COOKIE: &str = "agentry_session";
/// How long a session lasts: a working day.
pub(crate) const LIFE: std::time::Duration = std::time::Duration::from_secs(12 * 3_600);
/// Bytes of a cookie before its signature: the key's id and the end, in microseconds.
const SAID: usize = 24;
/// Bytes of a signature.
const SIGNATURE: usize = 32;

/// A cookie that was read but not yet proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The key that opened it.
    pub(crate) key: KeyId,
    /// When it ends.
    ends: Timestamp,
    said: [u8; SAID],
    signature: [u8; SIGNATURE],
}

fn mac(hash: &KeyHash, purpose: &[u8], said: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length, so this does not fail; an empty one would sign nothing that is ever checked.
    let mut mac = Hmac::<Sha256>::new_from_slice(&hash.0).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(purpose);
    mac.update(said);
    mac
}

/// The `Set-Cookie` of a new session of this key.
pub(crate) fn open(key: &ApiKey, now: Timestamp, tls: bool) -> String {
    let ends = now.after(LIFE);
    let mut bytes = Vec::with_capacity(SAID + SIGNATURE);
    bytes.extend(key.id.as_bytes());
    bytes.extend(ends.0.to_be_bytes());
    let signature = mac(&key.hash, b"session", &bytes).finalize().into_bytes();
    bytes.extend(signature);
    set_cookie(&URL_SAFE_NO_PAD.encode(bytes), LIFE.as_secs(), tls)
}

/// The `Set-Cookie` that ends one.
pub(crate) fn close(tls: bool) -> String {
    set_cookie("", 0, tls)
}

fn set_cookie(value: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The cookie of a request, if it can be one.
pub(crate) fn claimed(headers: &HeaderMap) -> Option<Claimed> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let value = cookies.flat_map(|text| text.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE && !value.is_empty()).then_some(value)
    })?;
    let bytes = URL_SAFE_NO_PAD.decode(value).ok().filter(|bytes| bytes.len() == SAID + SIGNATURE)?;
    let said: [u8; SAID] = bytes[..SAID].try_into().ok()?;
    let ends = Timestamp(i64::from_be_bytes(said[16..].try_into().ok()?));
    let key = KeyId::from_bytes(said[..16].try_into().ok()?);
    Some(Claimed { key, ends, said, signature: bytes[SAID..].try_into().ok()? })
}

impl Claimed {
    /// Whether this key opened it and it has not ended. The signature is compared in constant time.
    pub(crate) fn is_good(&self, key: &ApiKey, now: Timestamp) -> bool {
        self.ends > now && mac(&key.hash, b"session", &self.said).verify_slice(&self.signature).is_ok()
    }

    /// The token that writes of this session carry.
    pub(crate) fn csrf(&self, key: &ApiKey) -> String {
        URL_SAFE_NO_PAD.encode(mac(&key.hash, b"csrf", &self.said).finalize().into_bytes())
    }

    /// Whether a request carries that token.
    pub(crate) fn carries_csrf(&self, key: &ApiKey, headers: &HeaderMap) -> bool {
        let sent = headers.get("x-csrf-token").and_then(|value| URL_SAFE_NO_PAD.decode(value.as_bytes()).ok());
        sent.is_some_and(|sent| mac(&key.hash, b"csrf", &self.said).verify_slice(&sent).is_ok())
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
    fn a_session_is_of_its_key_and_of_its_time() {
        let (key, _) = new_key("a", Scope::Run, Timestamp(0), None).unwrap();
        let (other, _) = new_key("b", Scope::Run, Timestamp(0), None).unwrap();
        let claim = claimed(&sent(&open(&key, Timestamp(5), true))).unwrap();
        assert!(claim.is_good(&key, Timestamp(6)));
        assert!(!claim.is_good(&other, Timestamp(6)));
        assert!(!claim.is_good(&key, Timestamp(5).after(LIFE)), "it has ended");
        let longer = Claimed { ends: Timestamp(i64::MAX), said: [0xff; SAID], ..claim.clone() };
        assert!(!longer.is_good(&key, Timestamp(6)), "what it says is signed");
        let mut headers = HeaderMap::new();
        assert!(!claim.carries_csrf(&key, &headers));
        headers.insert("x-csrf-token", claim.csrf(&key).parse().unwrap());
        assert!(claim.carries_csrf(&key, &headers) && !claim.carries_csrf(&other, &headers));
    }

    #[test]
    fn cookies_are_strict_and_junk_is_none() {
        let (key, _) = new_key("a", Scope::Run, Timestamp(0), None).unwrap();
        let cookie = open(&key, Timestamp(5), true);
        assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        assert!(!open(&key, Timestamp(5), false).contains("Secure"));
        for junk in ["agentry_session=", "agentry_session=AAAA", "agentry_session=%%%", "other=1"] {
            assert_eq!(claimed(&sent(junk)), None, "{junk}");
        }
    }
}
