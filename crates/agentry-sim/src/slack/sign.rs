//! Slack's signature over what it sends, and the ways in which it can be wrong.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

/// How old a stale request claims to be: beyond the five minutes that Slack tells apps to take.
const STALE: Duration = Duration::from_secs(6 * 60);

/// How a request is to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Forge {
    /// Signed with another secret.
    Signature,
    /// Signed rightly, six minutes ago.
    Stale,
    /// Without the headers.
    Missing,
    /// With a body that was changed afterwards.
    Body,
}

/// The value of `X-Slack-Signature`.
pub(super) fn signature(secret: &SecretString, timestamp: u64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return String::new() };
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v0={digits}")
}

/// The headers of a request that is sent `now`, and its body.
pub(super) fn signed(
    secret: &SecretString,
    now: Duration,
    body: &str,
    forge: Option<Forge>,
) -> (Vec<(&'static str, String)>, String) {
    let timestamp = if forge == Some(Forge::Stale) { now.saturating_sub(STALE) } else { now }.as_secs();
    let other = SecretString::from("not-the-secret");
    let secret = if forge == Some(Forge::Signature) { &other } else { secret };
    let signature = signature(secret, timestamp, body.as_bytes());
    let headers = match forge {
        Some(Forge::Missing) => Vec::new(),
        _ => vec![("x-slack-request-timestamp", timestamp.to_string()), ("x-slack-signature", signature)],
    };
    // Still a body that can be read, so that nothing but the signature tells.
    let body = if forge == Some(Forge::Body) { format!("{body} ") } else { body.to_owned() };
    (headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's documentation, "Verifying requests from Slack".
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
        assert_eq!(sent(Some(Forge::Missing)), (vec![], "{}".into()));
        assert_eq!(sent(Some(Forge::Stale)).0[0].1, "640");
        assert_eq!(sent(Some(Forge::Body)), (good.0.clone(), "{} ".into()));
        let forged = sent(Some(Forge::Signature));
        assert!(forged.0[0] == good.0[0] && forged.0[1] != good.0[1] && forged.1 == good.1);
    }
}
