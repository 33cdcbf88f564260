//! Addresses and keys of providers, and the clients made from them.

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

/// Addresses and keys of providers.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// Value of `OPENAI_API_KEY`.
    pub openai_api_key: Option<SecretString>,
    /// Address of OpenAI targets without a `base_url`.
    pub openai_base_url: Option<String>,
    /// Value of `ANTHROPIC_API_KEY`.
    pub anthropic_api_key: Option<SecretString>,
    /// Address of Anthropic targets without a `base_url`.
    pub anthropic_base_url: Option<String>,
    /// Value of `OLLAMA_API_KEY`, which only hosted servers require.
    pub ollama_api_key: Option<SecretString>,
    /// Address of Ollama targets without a `base_url`.
    pub ollama_base_url: Option<String>,
    /// Value of `AWS_BEARER_TOKEN_BEDROCK`; without it requests are signed with AWS credentials.
    pub bedrock_api_key: Option<SecretString>,
    /// Address of Bedrock targets without a `base_url`.
    pub bedrock_base_url: Option<String>,
    /// Region of Bedrock targets without a `region`.
    pub aws_region: Option<String>,
    /// Environment in which AWS credentials are looked up.
    pub aws: AwsEnvironment,
    /// Root URL of a simulator (`--sim`), which replaces every target that leaves the process. Each protocol is kept,
    /// no key is sent, and a trailing `/v1` is ignored.
    pub override_base_url: Option<String>,
    /// Timeouts of the parts of a call.
    pub timeouts: Timeouts,
}

impl Endpoints {
    /// Returns the client of a provider. It connects with its first call.
    #[must_use]
    pub fn provider(&self, kind: ProviderKind) -> Arc<dyn LlmProvider> {
        self.provider_over(kind, &self.clients())
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = (ProviderKind, Arc<dyn LlmProvider>)> {
        let clients = self.clients();
        ProviderKind::ALL.into_iter().map(move |kind| (kind, self.provider_over(kind, &clients)))
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::new(Clients::with(ClientOptions {
            // Enough for every call that may be in flight.
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
