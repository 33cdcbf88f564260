//! What the provider layer adds to a model call: against a bare HTTP call to the same simulator, in one run.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentry_core::agent::{AgentName, LlmTarget, ProviderKind, SamplingParams};
use agentry_core::chat::{ChatRequest, Message};
use agentry_core::id::CallId;
use agentry_core::task::Priority;
use agentry_core::trace::{Place, Sampling, SpanId, Trace};
use agentry_llm::{Abort, Call, Endpoints, Hooks, Providers, TokenSink};
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::http::{Pool, post};
use super::open_loop::{self, Latencies};
use super::server::Simulator;
use super::{at_most, median, spread};

/// Calls in a second.
const RATE: u64 = 500;
/// How long each side is measured in a round.
const WINDOW: Duration = Duration::from_secs(10);
/// What is asked, by both sides.
const QUESTION: &str = "Where is the parcel? [[say:It is in Kiel, and will be with you tomorrow morning.]]";

/// Journals nothing: that is the platform's, and measured with it.
struct NoJournal;

#[async_trait]
impl Hooks for NoJournal {
    async fn before(&self, _call: &Call) -> Result<(), Abort> {
        Ok(())
    }

    fn failed(&self, _: &agentry_llm::Attempt) {}

    fn new_call_id(&self) -> CallId {
        CallId::from_parts(1, 1)
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

fn call(number: u64, question: &str) -> Call {
    Call {
        id: CallId::from_parts(number, u128::from(number) << 64),
        agent: AgentName::new("caller").unwrap(),
        under: Place::of(Sampling::Off, Trace::begin(u128::from(number) + 1), SpanId::new(1)),
        target: LlmTarget { provider: ProviderKind::Openai, model: "sim-small".into(), base_url: None, region: None },
        request: ChatRequest {
            messages: vec![
                Message::System { content: "Answer in one word.".to_owned() },
                Message::User { content: question.to_owned() },
            ],
            tools: Vec::new(),
            output_schema: None,
        },
        params: SamplingParams::default(),
        response_format: None,
        timeout: Duration::from_secs(30),
        priority: Priority::Normal,
    }
}

fn providers(simulator: &Simulator) -> Arc<Providers> {
    let endpoints = Endpoints { override_base_url: Some(simulator.url.clone()), ..Endpoints::default() };
    Arc::new(Providers::new(&endpoints))
}

fn bare_request(stream: bool) -> Vec<u8> {
    let messages = serde_json::json!([{"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": QUESTION}]);
    let mut body = serde_json::json!({"model": "sim-small", "messages": messages});
    if stream {
        body["stream"] = serde_json::json!(true);
        body["stream_options"] = serde_json::json!({"include_usage": true});
    }
    post("/v1/chat/completions", &body.to_string())
}

/// Whole answers and first tokens, each side in turn, round by round.
pub async fn added(rounds: usize) {
    let simulator = Simulator::start();
    let address = simulator.address().to_owned();
    let providers = providers(&simulator);
    let mut added = Added::default();
    // Connections are opened and pages are touched before anything counts.
    drop(bare_whole(&address, Duration::from_secs(2)).await);
    drop(through_whole(&providers, Duration::from_secs(2)).await);
    for _ in 0..rounds {
        let (bare, through) = (bare_whole(&address, WINDOW).await, through_whole(&providers, WINDOW).await);
        added.take("whole", &bare, &through);
        let (bare, through) = (bare_first(&address, WINDOW).await, through_first(&providers, WINDOW).await);
        added.take("first token", &bare, &through);
    }
    added.say();
}

/// Differences of quantiles, in milliseconds, of each round.
#[derive(Default)]
struct Added {
    whole: [Vec<f64>; 2],
    first: [Vec<f64>; 2],
}

impl Added {
    fn take(&mut self, what: &'static str, bare: &Latencies, through: &Latencies) {
        println!("{what}: bare {}; through the providers {}", bare.text(), through.text());
        let of = if what == "whole" { &mut self.whole } else { &mut self.first };
        of[0].push(through.at(0.95) - bare.at(0.95));
        of[1].push(through.at(0.99) - bare.at(0.99));
    }

    fn say(self) {
        let micros = |values: &[f64]| spread(values.iter().map(|ms| ms * 1_000.0).collect());
        let [p95, p99] = &self.whole;
        println!(
            "added per call at {RATE}/s: p95 {} µs ({}), p99 {} µs ({})",
            micros(p95),
            at_most(median(p95), 0.5),
            micros(p99),
            at_most(median(p99), 1.0)
        );
        println!(
            "added to the first token at {RATE}/s: p95 {} µs ({})",
            micros(&self.first[0]),
            at_most(median(&self.first[0]), 0.5)
        );
    }
}

async fn bare_whole(address: &str, window: Duration) -> Latencies {
    let (pool, request) = (Pool::new(address, Vec::new()), Arc::new(bare_request(false)));
    open_loop::run(RATE, window, |_| {
        let (pool, request) = (pool.clone(), Arc::clone(&request));
        async move { pool.is_well(&request).await }
    })
    .await
}

async fn through_whole(providers: &Arc<Providers>, window: Duration) -> Latencies {
    open_loop::run(RATE, window, |number| {
        let providers = Arc::clone(providers);
        async move { providers.chat(&call(number, QUESTION), &[], None, &NoJournal).await.error.is_none() }
    })
    .await
}

/// Until the first event with content is there; what follows is read before the connection is used again.
async fn bare_first(address: &str, window: Duration) -> Latencies {
    let idle = Arc::new(tokio::sync::Mutex::new(Vec::<TcpStream>::new()));
    let request = Arc::new(bare_request(true));
    open_loop::run(RATE, window, |_| {
        let (idle, request, address) = (Arc::clone(&idle), Arc::clone(&request), address.to_owned());
        async move {
            let stream = idle.lock().await.pop();
            let mut stream = match stream {
                Some(stream) => stream,
                None => connect(&address).await,
            };
            stream.write_all(&request).await.unwrap();
            let (mut buffer, mut is_first) = (Vec::with_capacity(16 * 1024), false);
            while !is_first {
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return false;
                }
                // The first event names the role, the second begins the text.
                is_first = buffer.windows(6).filter(|window| *window == b"data: ").count() >= 2;
            }
            tokio::spawn(async move {
                while !buffer.ends_with(b"0\r\n\r\n") {
                    if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                idle.lock().await.push(stream);
            });
            true
        }
    })
    .await
}

async fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Tells the first piece.
struct First(Mutex<Option<oneshot::Sender<()>>>);

impl TokenSink for First {
    fn piece(&self, _text: &str) {
        if let Some(sender) = self.0.lock().unwrap().take() {
            let _ = sender.send(());
        }
    }
}

async fn through_first(providers: &Arc<Providers>, window: Duration) -> Latencies {
    open_loop::run(RATE, window, |number| {
        let providers = Arc::clone(providers);
        async move {
            let (sender, first) = oneshot::channel();
            let sink: Arc<dyn TokenSink> = Arc::new(First(Mutex::new(Some(sender))));
            tokio::spawn(
                async move { providers.chat(&call(number, QUESTION), &[], Some(sink), &NoJournal).await.error },
            );
            first.await.is_ok()
        }
    })
    .await
}

/// Ten calls at once against one alone, of a model that writes 200 tokens in a second.
pub async fn ten_at_once(rounds: usize) {
    let simulator = Simulator::with(&["--profile", "fast"]);
    let providers = providers(&simulator);
    let together = async |count: u64| {
        let began = Instant::now();
        let calls = (0..count).map(|number| {
            let providers = Arc::clone(&providers);
            async move { providers.chat(&call(number, "[[long:100]]"), &[], None, &NoJournal).await.error.is_none() }
        });
        assert!(futures_util::future::join_all(calls).await.into_iter().all(|well| well));
        began.elapsed().as_secs_f64() * 1e3
    };
    together(10).await;
    let (mut one, mut ten) = (Vec::new(), Vec::new());
    for _ in 0..rounds * 3 {
        one.push(together(1).await);
        ten.push(together(10).await);
    }
    let ratio = median(&ten) / median(&one);
    println!("one call {} ms, ten at once {} ms: ratio {ratio:.3}; {}", spread(one), spread(ten), at_most(ratio, 1.1));
}
