//! AWS Bedrock's Converse and ConverseStream.

mod credentials;
mod failure;
mod reply;
mod request;
mod sign;

use std::sync::Arc;
use std::time::SystemTime;

use agentry_core::agent::LlmTarget;
use agentry_http::Clients;
use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::SecretString;

use crate::openai::bearer;
use crate::wire::failure::{error, malformed, piece, unwritable};
use crate::wire::{Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, RequestChanges};
use crate::{Call, LlmError, LlmErrorKind};

pub use credentials::AwsEnvironment;
use credentials::CredentialsChain;

/// Characters of a model id that are not encoded in a path (RFC 3986, "unreserved").
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) struct Bedrock {
    api_key: Option<SecretString>,
    region: Option<String>,
    bases: Bases,
    chain: CredentialsChain,
}

impl Bedrock {
    /// Creates the protocol with a bearer token, or with the credentials that the chain finds.
    pub fn new(
        api_key: Option<SecretString>,
        region: Option<String>,
        environment: AwsEnvironment,
        bases: Bases,
        clients: Arc<Clients>,
    ) -> Self {
        Self { api_key, region, bases, chain: CredentialsChain::new(environment, clients) }
    }

    /// Returns the region of a target: its own, or the one of the settings, the environment or the profile.
    fn region(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        let own = target.region.as_deref().or(self.region.as_deref()).map(str::to_owned);
        own.or_else(|| self.chain.region()).ok_or(MissingRegion)
    }

    fn base_of(&self, target: &LlmTarget) -> Result<(Base, String), MissingRegion> {
        let base = self.bases.of(target);
        let url = match &base {
            Base::Override(url) | Base::Chosen(url) => url.clone(),
            Base::Own => own(&self.region(target)?),
        };
        Ok((base, url))
    }

    async fn authorized(&self, call: &Call, base: &Base, url: &str, body: &[u8]) -> Result<HeaderMap, LlmError> {
        if matches!(base, Base::Override(_)) {
            return Ok(HeaderMap::new());
        }
        if let Some(key) = &self.api_key {
            return bearer(call, key, "AWS_BEARER_TOKEN_BEDROCK");
        }
        let region = self
            .region(&call.target)
            .map_err(|problem| error(call, LlmErrorKind::InvalidRequest, problem.to_string()))?;
        let credentials = self.chain.get().await;
        let credentials =
            credentials.map_err(|problem| error(call, LlmErrorKind::Authentication, problem.to_string()))?;
        sign::headers(url, body, credentials, &region, SystemTime::now())
            .map_err(|problem| error(call, LlmErrorKind::Authentication, problem.to_string()))
    }
}

/// Returns AWS's endpoint of a region (AWS, "Amazon Bedrock endpoints and quotas").
fn own(region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://bedrock-runtime.{region}.{end}")
}

#[async_trait]
impl Protocol for Bedrock {
    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        self.base_of(target).map(|(_, url)| url)
    }

    async fn outgoing(&self, call: &Call, stream: bool, changes: &RequestChanges) -> Result<Outgoing, LlmError> {
        let base = self.base_of(&call.target);
        let (base, root) = base.map_err(|problem| error(call, LlmErrorKind::InvalidRequest, problem.to_string()))?;
        let body = request::body(call).and_then(|body| changes.apply(body));
        let body = body.map_err(|problem| unwritable(call, &problem))?;
        let model = utf8_percent_encode(&call.target.model, PATH);
        let url = format!("{root}/model/{model}/{}", if stream { "converse-stream" } else { "converse" });
        let headers = self.authorized(call, &base, &url, &body).await?;
        Ok(Outgoing { url, headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let reply = serde_json::from_slice(body).map_err(|problem| {
            let excerpt = crate::wire::failure::excerpt(body);
            malformed(call, format!("the answer is not one of Converse ({problem}): {excerpt}"))
        })?;
        Ok(reply::whole(call, reply))
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        if frame.is_exception {
            return Err(failure::of_frame(call, frame));
        }
        match frame.name.as_str() {
            "messageStart" | "contentBlockStop" => {}
            "contentBlockStart" => reply::block_start(draft, piece(call, &frame.data)?),
            "contentBlockDelta" => reply::delta(draft, piece(call, &frame.data)?),
            "messageStop" => reply::message_stop(draft, &piece(call, &frame.data)?),
            "metadata" => {
                reply::metadata(draft, &piece(call, &frame.data)?);
                return Ok(Progress::Done);
            }
            // Events of later versions.
            _ => {}
        }
        Ok(Progress::More)
    }

    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
        failure::of_status(call, status, headers, body)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        let mut secrets = self.chain.secrets().await;
        secrets.extend(self.api_key.clone());
        secrets
    }

    async fn credentials_refused(&self) {
        self.chain.forget().await;
    }

    async fn warm(&self) {
        if self.api_key.is_none() && self.bases.override_root.is_none() {
            // The first call reports errors of the lookup.
            let _ = self.chain.get().await;
        }
    }
}
