//! Shared code of this crate's tests: a simulator on a free port, a call, a sink.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::agent::{AgentName, LlmTarget, ProviderKind, SamplingParams};
use agentry_core::chat::{ChatRequest, Message};
use agentry_core::id::CallId;
use agentry_core::task::Priority;
use agentry_core::trace::{Sampling, SpanContext, SpanId, Trace};
use agentry_llm::{Call, Endpoints, TokenSink};
use agentry_sim::llm::{LlmSim, SimOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A simulator that ends with the test.
pub struct Sim {
    pub root: String,
    sim: LlmSim,
    _stop: DropGuard,
}

impl Sim {
    pub async fn start() -> Self {
        Self::with(SimOptions::default()).await
    }

    /// Starts one that refuses every other key.
    pub async fn requiring(key: &str) -> Self {
        Self::with(SimOptions { require_key: Some(key.to_owned().into()), ..SimOptions::default() }).await
    }

    async fn with(options: SimOptions) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let sim = LlmSim::new(options).unwrap();
        let stop = CancellationToken::new();
        let (server, shutdown) = (sim.clone(), stop.clone());
        tokio::spawn(async move { server.serve(listener, shutdown).await.unwrap() });
        Self { root, sim, _stop: stop.drop_guard() }
    }
}

impl Sim {
    /// Returns the base URL of OpenAI's protocol.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.root)
    }

    /// Returns endpoints that send every provider's calls here.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints { override_base_url: Some(self.root.clone()), ..Endpoints::default() }
    }
}

impl Deref for Sim {
    type Target = LlmSim;

    fn deref(&self) -> &LlmSim {
        &self.sim
    }
}

/// Returns a call that sends `text` to a model at `base_url`.
pub fn call(base_url: &str, text: &str) -> Call {
    Call {
        id: CallId::from_parts(1, 2),
        agent: AgentName::new("tester").unwrap(),
        under: SpanContext::of(Sampling::Off, Trace::begin(7), SpanId::new(1)),
        target: LlmTarget {
            provider: ProviderKind::Openai,
            model: "sim-small".into(),
            base_url: (!base_url.is_empty()).then(|| base_url.into()),
            region: None,
        },
        request: ChatRequest {
            messages: vec![
                Message::System { content: "You are a support agent.".into() },
                Message::User { content: text.into() },
            ],
            tools: Vec::new(),
            output_schema: None,
        },
        params: SamplingParams::default(),
        response_format: None,
        timeout: Duration::from_secs(20),
        traits: Arc::default(),
        must_limit: false,
        priority: Priority::Normal,
    }
}

#[derive(Default)]
pub struct Pieces(Mutex<Vec<String>>);

impl Pieces {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl TokenSink for Pieces {
    fn piece(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}
