//! Slack's request signature, version 0: HMAC-SHA256 over `v0:timestamp:body`, compared in constant time.

use agentry_core::time::Timestamp;
use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// The largest difference between the request's timestamp and now, in seconds (Slack's recommendation).
const WINDOW_SECONDS: u64 = 5 * 60;
/// Bytes of a signature.
const TAG_BYTES: usize = 32;

/// An invalid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("the request has no `X-Slack-Request-Timestamp` and `X-Slack-Signature`: only Slack may call this")]
    Missing,
    #[error(
        "the request's timestamp is more than 5 minutes away from this server's clock: it is old, or a clock is wrong"
    )]
    Stale,
    #[error("the signature is not that of the body under any signing secret of this server")]
    Wrong,
}

/// Verifies that one of `secrets` signed this body within the last 5 minutes.
pub(super) fn verify(
    secrets: &[SecretString],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let timestamp = header("x-slack-request-timestamp").ok_or(SignatureError::Missing)?;
    let signature = header("x-slack-signature").ok_or(SignatureError::Missing)?;
    let digits = !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|b| b.is_ascii_digit());
    let sent: i64 = timestamp.parse().ok().filter(|_| digits).ok_or(SignatureError::Wrong)?;
    if now.millis().div_euclid(1_000).abs_diff(sent) > WINDOW_SECONDS {
        return Err(SignatureError::Stale);
    }
    let given = tag(signature).ok_or(SignatureError::Wrong)?;
    // Every secret is tried, so that the time reveals neither which one fits nor how much of it.
    let mut fits = Choice::from(0);
    for secret in secrets {
        fits |= sign(secret, timestamp, body).ct_eq(&given);
    }
    if bool::from(fits) { Ok(()) } else { Err(SignatureError::Wrong) }
}

/// The bytes of `v0=` and 64 hex digits.
fn tag(signature: &str) -> Option<[u8; TAG_BYTES]> {
    let hex = signature.strip_prefix("v0=")?.as_bytes();
    if hex.len() != 2 * TAG_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut tag = [0; TAG_BYTES];
    for (byte, pair) in tag.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(tag)
}

fn sign(secret: &SecretString, timestamp: &str, body: &[u8]) -> [u8; TAG_BYTES] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
        // HMAC takes keys of any length.
        return [0; TAG_BYTES];
    };
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_531_420_618;

    fn hex(tag: &[u8]) -> String {
        tag.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-slack-request-timestamp", timestamp.parse().unwrap());
        headers.insert("x-slack-signature", signature.parse().unwrap());
        headers
    }

    fn check(secrets: &[&str], headers: &HeaderMap, body: &[u8], now: i64) -> Result<(), SignatureError> {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        verify(&secrets, headers, body, Timestamp(now * 1_000_000))
    }

    /// The example of Slack's own documentation of request signing.
    #[test]
    fn the_documented_example_verifies() {
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
            channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
            response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
            trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        let secret = "8f742231b10e8888abcd99yyyzzz85a5";
        assert_eq!(check(&[secret], &headers("1531420618", signature), body, NOW), Ok(()));
        assert_eq!(check(&["other", secret], &headers("1531420618", signature), body, NOW), Ok(()));
        assert_eq!(check(&["other"], &headers("1531420618", signature), body, NOW), Err(SignatureError::Wrong));
        assert_eq!(check(&[], &headers("1531420618", signature), body, NOW), Err(SignatureError::Wrong));
        for (now, expected) in [(NOW + 300, Ok(())), (NOW - 300, Ok(())), (NOW + 301, Err(SignatureError::Stale))] {
            assert_eq!(check(&[secret], &headers("1531420618", signature), body, now), expected, "{now}");
        }
    }

    #[test]
    fn what_is_missing_or_no_signature_is_refused() {
        assert_eq!(check(&["k"], &HeaderMap::new(), b"", NOW), Err(SignatureError::Missing));
        let good = hex(&sign(&"k".into(), "1531420618", b"x"));
        for (timestamp, signature) in [
            ("1531420618", good.clone()),
            ("1531420618", format!("v1={good}")),
            ("1531420618", format!("v0={}", &good[..62])),
            ("1531420618", format!("v0={}g", &good[..63])),
            ("-1531420618", format!("v0={good}")),
            ("+1531420618", format!("v0={good}")),
            ("1531420618.0", format!("v0={good}")),
            ("", format!("v0={good}")),
        ] {
            let found = check(&["k"], &headers(timestamp, &signature), b"x", NOW);
            assert_eq!(found, Err(SignatureError::Wrong), "{timestamp} {signature}");
        }
    }

    proptest! {
        #[test]
        fn only_the_signed_bytes_under_the_secret_verify(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            secret in "[a-f0-9]{32}",
            at in 0_usize..10_000,
            flip in 1_u8..=255,
            skew in -600_i64..600,
        ) {
            let sent = (NOW + skew).to_string();
            let signed = format!("v0={}", hex(&sign(&secret.as_str().into(), &sent, &body)));
            let expected = if skew.abs() <= 300 { Ok(()) } else { Err(SignatureError::Stale) };
            prop_assert_eq!(check(&[&secret], &headers(&sent, &signed), &body, NOW), expected);
            if expected.is_ok() {
                // One byte of the body.
                let mut forged = body.clone();
                if !forged.is_empty() {
                    let at = at % forged.len();
                    forged[at] ^= flip;
                    prop_assert_eq!(check(&[&secret], &headers(&sent, &signed), &forged, NOW), Err(SignatureError::Wrong));
                }
                // One byte of the signature.
                let mut tag = sign(&secret.as_str().into(), &sent, &body);
                tag[at % TAG_BYTES] ^= flip;
                let forged = format!("v0={}", hex(&tag));
                prop_assert_eq!(check(&[&secret], &headers(&sent, &forged), &body, NOW), Err(SignatureError::Wrong));
                // Another moment, still within the window.
                let moved = (NOW - skew / 2 - i64::from(skew == 0)).to_string();
                if moved != sent {
                    prop_assert_eq!(check(&[&secret], &headers(&moved, &signed), &body, NOW), Err(SignatureError::Wrong));
                }
            }
        }
    }
}
