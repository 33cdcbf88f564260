//! Where providers are reached and with which keys, and the clients that follow from it.

use std::sync::Arc;

use agentry_core::agent::ProviderKind;
use agentry_http::{ClientOptions, Clients};
use secrecy::SecretString;

use crate::anthropic::Anthropic;
use crate::bedrock::{AwsEnvironment, Bedrock};
use crate::ollama::Ollama;
use crate::openai::OpenAi;
use crate::simulated::Simulated;
use crate::wire::{Bases, Client, Protocol, Timeouts};
use crate::{LlmProvider, MAX_CONCURRENT_CALLS};

/// Where providers are reached and with which keys.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// `OPENAI_API_KEY`.
    pub openai_api_key: Option<SecretString>,
    /// Where OpenAI targets without a `base_url` of their own go.
    pub openai_base_url: Option<String>,
    /// `ANTHROPIC_API_KEY`.
    pub anthropic_api_key: Option<SecretString>,
    /// Where Anthropic targets without a `base_url` of their own go.
    pub anthropic_base_url: Option<String>,
    /// `OLLAMA_API_KEY`, which only servers on the net want.
    pub ollama_api_key: Option<SecretString>,
    /// Where Ollama targets without a `base_url` of their own go.
    pub ollama_base_url: Option<String>,
    /// `AWS_BEARER_TOKEN_BEDROCK`; without it requests are signed with credentials.
    pub bedrock_api_key: Option<SecretString>,
    /// Where Bedrock targets without a `base_url` of their own go.
    pub bedrock_base_url: Option<String>,
    /// The region of Bedrock targets without one of their own.
    pub aws_region: Option<String>,
    /// Where AWS credentials are looked for.
    pub aws: AwsEnvironment,
    /// Where every target that leaves the process goes instead, each by its own protocol and without a key: the root of a
    /// simulator (`--sim`). A `/v1` at its end is left out.
    pub override_base_url: Option<String>,
    /// How long each part of a call may take.
    pub timeouts: Timeouts,
}

impl Endpoints {
    /// The provider of a kind. Nothing is connected before its first call.
    #[must_use]
    pub fn provider(&self, kind: ProviderKind) -> Arc<dyn LlmProvider> {
        self.provider_over(kind, &self.clients())
    }

    /// All providers, on one pool of connections.
    pub(crate) fn providers(&self) -> impl Iterator<Item = (ProviderKind, Arc<dyn LlmProvider>)> {
        let clients = self.clients();
        ProviderKind::ALL.into_iter().map(move |kind| (kind, self.provider_over(kind, &clients)))
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::new(Clients::with(ClientOptions {
            // As many as may have been in use at once.
            max_idle_per_host: MAX_CONCURRENT_CALLS,
            connect_timeout: self.timeouts.connect,
            http2: true,
        }))
    }

    fn provider_over(&self, kind: ProviderKind, clients: &Arc<Clients>) -> Arc<dyn LlmProvider> {
        let override_root = self.override_base_url.clone();
        let bases =
            |configured: &Option<String>| Bases { override_root, configured: configured.clone(), ..Bases::default() };
        let protocol: Box<dyn Protocol> = match kind {
            ProviderKind::Openai => Box::new(OpenAi::new(self.openai_api_key.clone(), bases(&self.openai_base_url))),
            ProviderKind::Anthropic => {
                Box::new(Anthropic::new(self.anthropic_api_key.clone(), bases(&self.anthropic_base_url)))
            }
            ProviderKind::Ollama => Box::new(Ollama::new(self.ollama_api_key.clone(), bases(&self.ollama_base_url))),
            ProviderKind::Bedrock => Box::new(Bedrock::new(
                self.bedrock_api_key.clone(),
                self.aws_region.clone(),
                self.aws.clone(),
                bases(&self.bedrock_base_url),
                Arc::clone(clients),
            )),
            ProviderKind::Simulated => return Arc::new(Simulated),
        };
        Arc::new(Client::new(protocol, Arc::clone(clients), self.timeouts))
    }
}
