//! Verification of AWS signatures (Signature Version 4), independent of the library that clients sign with.
//!
//! Source: AWS, "Create a signed AWS API request". Paths of services other than S3 are encoded once more before they
//! are signed, so the colon of a model's id is `%253A` here.

use std::fmt::Write;
use std::time::Duration;

use axum::http::header;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::{Incoming, Refusal};
use crate::clock::since_epoch;
use crate::digest::{hex, hmac};

/// Prefix of the `Authorization` header of signed requests.
pub(super) const SIGNED: &str = "AWS4-HMAC-SHA256 ";
/// Largest difference between the clocks of client and service.
const MAX_SKEW: Duration = Duration::from_secs(300);
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                        Access Key and signing method. Consult the service documentation for details.";

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    /// Day, region, service and `aws4_request`.
    scope: &'a str,
    /// The names of the headers that are signed.
    signed: &'a str,
    signature: &'a str,
}

pub(super) fn check(incoming: &Incoming<'_>, secret: &str) -> Result<(), Refusal> {
    let text = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok());
    let wrong = |message: &str| Refusal::new(403, message);
    let given = text(header::AUTHORIZATION.as_str()).and_then(authorization);
    let given = given.ok_or_else(|| {
        wrong("Authorization header requires a signature with Credential, SignedHeaders and Signature.")
    })?;
    let date = text("x-amz-date").ok_or_else(|| wrong("The signature needs an x-amz-date header."))?;
    let then = DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok().and_then(|at| at.to_zoned(TimeZone::UTC).ok());
    let then = then.ok_or_else(|| wrong("The signature's x-amz-date is no date."))?.timestamp();
    let now = Timestamp::from_second(i64::try_from(since_epoch().as_secs()).unwrap_or_default()).unwrap_or_default();
    if now.duration_since(then).unsigned_abs() > MAX_SKEW {
        return Err(wrong(&format!("Signature expired: {date} is too far from the time of the service.")));
    }
    let [day, region, "bedrock", "aws4_request"] = given.scope.split('/').collect::<Vec<_>>()[..] else {
        return Err(wrong("The signature's credential should be scoped to the service bedrock."));
    };
    if !date.starts_with(day) {
        return Err(wrong("The signature's credential is of another day than its date."));
    }
    let canonical = canonical(incoming, given.signed).ok_or_else(|| wrong(MISMATCH))?;
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{}\n{}", given.scope, hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, "bedrock", "aws4_request"] {
        key = hmac(&key, &[part.as_bytes()]);
    }
    if hex(&hmac(&key, &[to_sign.as_bytes()])) == given.signature { Ok(()) } else { Err(wrong(MISMATCH)) }
}

fn authorization(header: &str) -> Option<Authorization<'_>> {
    let parts = header.strip_prefix(SIGNED)?;
    let part = |name: &str| parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (_key, scope) = part("Credential")?.split_once('/')?;
    Some(Authorization { scope, signed: part("SignedHeaders")?, signature: part("Signature")? })
}

/// Builds the canonical request; returns `None` when a signed header is missing.
fn canonical(incoming: &Incoming<'_>, signed: &str) -> Option<String> {
    let mut text = format!("POST\n{}\n{}\n", encoded(incoming.path), incoming.query.unwrap_or_default());
    for name in signed.split(';') {
        let values: Vec<&str> = incoming.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return None;
        }
        let trimmed: Vec<String> =
            values.iter().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let _ = writeln!(text, "{name}:{}", trimmed.join(","));
    }
    let _ = write!(text, "\n{signed}\n{}", hex(&Sha256::digest(incoming.body)));
    Some(text)
}

fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the example in AWS's documentation, "Examples of how to derive a signing key".
    #[test]
    fn the_key_is_derived_as_in_awss_example() {
        let mut key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        for part in ["20150830", "us-east-1", "iam", "aws4_request"] {
            key = hmac(&key, &[part.as_bytes()]);
        }
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn paths_are_encoded_once_more() {
        assert_eq!(encoded("/model/a.b-v1%3A0/converse"), "/model/a.b-v1%253A0/converse");
    }
}
