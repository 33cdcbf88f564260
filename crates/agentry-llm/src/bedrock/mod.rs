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
use crate::wire::{Base, Bases, Draft, Frame, Framing, Outgoing, Progress, Protocol};
use crate::{Call, LlmError, LlmErrorKind};

pub use credentials::AwsEnvironment;
use credentials::Chain;

/// What stands in a path as it is (RFC 3986, "unreserved"); of a model's id everything else is encoded.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The protocol.
pub(crate) struct Bedrock {
    api_key: Option<SecretString>,
    region: Option<String>,
    bases: Bases,
    chain: Chain,
}

impl Bedrock {
    /// The protocol with a bearer token, or else with what the chain of credentials finds.
    pub fn new(
        api_key: Option<SecretString>,
        region: Option<String>,
        environment: AwsEnvironment,
        bases: Bases,
        clients: Arc<Clients>,
    ) -> Self {
        Self { api_key, region, bases, chain: Chain::new(environment, clients) }
    }

    /// The region of a target: its own, the settings', the environment's or the profile's.
    fn region(&self, target: &LlmTarget) -> Result<String, String> {
        let own = target.region.as_deref().or(self.region.as_deref()).map(str::to_owned);
        own.or_else(|| self.chain.region()).ok_or_else(|| {
            "no AWS region: set `region` in the agent's llm_config, AWS_REGION, or `region` of the AWS profile"
                .to_owned()
        })
    }

    fn place(&self, target: &LlmTarget) -> Result<(Base, String), String> {
        let base = self.bases.of(target);
        let url = match &base {
            Base::Override(url) | Base::Chosen(url) => url.clone(),
            Base::Own => own(&self.region(target)?),
        };
        Ok((base, url))
    }

    async fn authorized(&self, call: &Call, base: &Base, url: &str, body: &[u8]) -> Result<HeaderMap, LlmError> {
        let refused = |problem: String| error(call, LlmErrorKind::Authentication, problem);
        if matches!(base, Base::Override(_)) {
            return Ok(HeaderMap::new());
        }
        if let Some(key) = &self.api_key {
            return bearer(call, key, "AWS_BEARER_TOKEN_BEDROCK");
        }
        let region = self.region(&call.target).map_err(|problem| error(call, LlmErrorKind::InvalidRequest, problem))?;
        let credentials = self.chain.get().await.map_err(refused)?;
        sign::headers(url, body, credentials, &region, SystemTime::now()).map_err(refused)
    }
}

/// AWS's own address of a region (AWS, "Amazon Bedrock endpoints and quotas").
fn own(region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://bedrock-runtime.{region}.{end}")
}

#[async_trait]
impl Protocol for Bedrock {
    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, String> {
        self.place(target).map(|(_, url)| url)
    }

    async fn outgoing(&self, call: &Call, stream: bool) -> Result<Outgoing, LlmError> {
        let place = self.place(&call.target);
        let (base, root) = place.map_err(|problem| error(call, LlmErrorKind::InvalidRequest, problem))?;
        let body = request::body(call).map_err(|problem| unwritable(call, &problem))?;
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
            "contentBlockStart" => reply::starts(draft, piece(call, &frame.data)?),
            "contentBlockDelta" => reply::delta(draft, piece(call, &frame.data)?),
            "messageStop" => reply::stops(draft, &piece(call, &frame.data)?),
            "metadata" => {
                reply::metadata(draft, &piece(call, &frame.data)?);
                return Ok(Progress::Done);
            }
            // What later versions add.
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
            // What is wrong with them is the first call's to say.
            let _ = self.chain.get().await;
        }
    }
}
