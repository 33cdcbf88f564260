//! Slack's signature of deliveries, and the ways in which it can be wrong on purpose.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::digest::{hex, hmac};

/// Age of a stale request: beyond the five minutes that Slack tells apps to accept.
const STALE: Duration = Duration::from_secs(6 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignatureFault {
    Signature,
    Stale,
    Missing,
    Body,
}

pub(super) fn signature(secret: &SecretString, timestamp: u64, body: &[u8]) -> String {
    let stamp = format!("v0:{timestamp}:");
    format!("v0={}", hex(&hmac(secret.expose_secret().as_bytes(), &[stamp.as_bytes(), body])))
}

/// Returns the headers and the body of a request that is sent at `now`.
pub(super) fn signed(
    secret: &SecretString,
    now: Duration,
    body: &str,
    forge: Option<SignatureFault>,
) -> (Vec<(&'static str, String)>, String) {
    let timestamp = if forge == Some(SignatureFault::Stale) { now.saturating_sub(STALE) } else { now }.as_secs();
    let other = SecretString::from("not-the-secret");
    let secret = if forge == Some(SignatureFault::Signature) { &other } else { secret };
    let signature = signature(secret, timestamp, body.as_bytes());
    let headers = match forge {
        Some(SignatureFault::Missing) => Vec::new(),
        _ => vec![("x-slack-request-timestamp", timestamp.to_string()), ("x-slack-signature", signature)],
    };
    // The changed body still parses, so only the signature gives it away.
    let body = if forge == Some(SignatureFault::Body) { format!("{body} ") } else { body.to_owned() };
    (headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example of Slack's documentation, "Verifying requests from Slack".
    #[test]
    fn slacks_own_example_has_this_signature() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                    channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                    response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                    96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let secret = SecretString::from("8f742231b10e8888abcd99yyyzzz85a5");
        let expected = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        assert_eq!(signature(&secret, 1_531_420_618, body.as_bytes()), expected);
    }

    #[test]
    fn forgeries_differ_in_one_thing_each() {
        let secret = SecretString::from("s");
        let sent = |forge| signed(&secret, Duration::from_secs(1_000), "{}", forge);
        let good = sent(None);
        assert_eq!(sent(Some(SignatureFault::Missing)), (vec![], "{}".into()));
        assert_eq!(sent(Some(SignatureFault::Stale)).0[0].1, "640");
        assert_eq!(sent(Some(SignatureFault::Body)), (good.0.clone(), "{} ".into()));
        let forged = sent(Some(SignatureFault::Signature));
        assert!(forged.0[0] == good.0[0] && forged.0[1] != good.0[1] && forged.1 == good.1);
    }
}
