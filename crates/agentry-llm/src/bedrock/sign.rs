//! Signature version 4 of requests to Bedrock, over the encoded path.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

const SERVICE: &str = "bedrock";

#[derive(Debug, thiserror::Error)]
pub(super) enum SigningError {
    #[error("the request cannot be signed: {0}")]
    Signing(String),
    #[error("the AWS credentials have characters that no HTTP header takes")]
    InvalidCredentials,
}

/// Returns the headers that sign a POST of a JSON `body` to `url`.
pub(super) fn headers(
    url: &str,
    body: &[u8],
    credentials: Credentials,
    region: &str,
    now: SystemTime,
) -> Result<HeaderMap, SigningError> {
    let failed = |problem: &dyn std::error::Error| SigningError::Signing(agentry_http::with_causes(problem));
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|problem| failed(&problem))?;
    let signed = [("content-type", "application/json")];
    let request = SignableRequest::new("POST", url, signed.into_iter(), SignableBody::Bytes(body))
        .map_err(|problem| failed(&problem))?;
    let (instructions, _) = sign(request, &params.into()).map_err(|problem| failed(&problem))?.into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|problem| failed(&problem))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| SigningError::InvalidCredentials)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `tests/it/botocore.rs` checks the signature itself against botocore.
    #[test]
    fn the_encoded_path_is_what_is_signed() {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "test");
        let url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v2%3A1/converse";
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let headers = headers(url, b"{}", credentials, "us-east-1", now).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("/20231114/us-east-1/bedrock/aws4_request"), "{authorization}");
        assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date"), "{authorization}");
        assert!(headers["authorization"].is_sensitive());
    }
}
