//! The server: the endpoints of six protocols on one listener, and two that read the ledger.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cache::PrefixCache;
use super::fault::FaultRate;
use super::generate::fnv;
use super::handle::{RequestHead, handle};
use super::ids::Ids;
use super::latency::Profile;
use super::ledger::{Ledger, Stats};
use super::limits::Limits;
use super::models;
use super::wire::Wire;
use super::wire::anthropic::Anthropic;
use super::wire::bedrock::Bedrock;
use super::wire::gemini::Gemini;
use super::wire::ollama::Ollama;
use super::wire::openai::OpenAi;
use super::wire::responses::Responses;
use crate::clock::now_us;
use crate::server::{self, lock};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Texts whose failures are counted for `[[fail:STATUS:N]]`; one more clears the counts.
const MAX_COUNTED_TEXTS: usize = 10_000;

/// Options of the LLM simulator.
#[derive(Debug, Clone, Default)]
pub struct SimOptions {
    /// Latency of answers.
    pub profile: Profile,
    /// Seed of answers, latencies and faults.
    pub seed: u64,
    /// Injected faults; the seed decides which requests they hit.
    pub faults: Vec<FaultRate>,
    /// Requests per second; further ones get 429 with `Retry-After: 1`.
    pub rate_limit: Option<u32>,
    /// Requests per minute and model.
    pub rpm: Option<u64>,
    /// Tokens per minute and model.
    pub tpm: Option<u64>,
    /// Key that every request must send; in signed requests the access key.
    pub require_key: Option<SecretString>,
    /// Secret key that requests to Bedrock must be signed with.
    pub aws_secret: Option<SecretString>,
    /// File that the ledger is appended to.
    pub ledger: Option<PathBuf>,
}

/// The LLM simulator. Clones share their state.
#[derive(Debug, Clone)]
pub struct LlmSim {
    inner: Arc<Simulator>,
}

#[derive(Debug)]
pub(super) struct Simulator {
    pub(super) options: SimOptions,
    ledger: Arc<Ledger>,
    limits: Limits,
    prefixes: PrefixCache,
    boot: u64,
    arrived: AtomicU64,
    failures: Mutex<HashMap<u64, u32>>,
    window: Mutex<(u64, u32)>,
}

impl LlmSim {
    /// Creates a simulator.
    ///
    /// # Errors
    /// The ledger's file cannot be opened.
    pub fn new(options: SimOptions) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::open(options.ledger.as_deref())?);
        let inner = Simulator {
            limits: Limits::new(options.rpm, options.tpm),
            options,
            ledger,
            prefixes: PrefixCache::default(),
            boot: now_us(),
            arrived: AtomicU64::new(0),
            failures: Mutex::default(),
            window: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Serves on `listener` until `shutdown`. Base URLs are `http://ADDRESS/v1` for clients of OpenAI's protocols and
    /// `http://ADDRESS` for all others. The ledger is complete when this returns.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let app = App { sim: Arc::clone(&self.inner), shutdown: shutdown.clone() };
        server::serve(listener, router(app), shutdown).await
    }

    /// Returns the number of requests that have arrived, including those that have not ended.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.inner.arrived.load(Ordering::Relaxed)
    }

    /// Returns the counters of the ledger.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.ledger.stats()
    }

    /// Returns the last lines of the ledger (JSON Lines), in the order in which requests ended.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.inner.ledger.recent()
    }
}

#[derive(Clone)]
pub(super) struct App {
    pub(super) sim: Arc<Simulator>,
    pub(super) shutdown: CancellationToken,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(|app, uri, headers, body| fixed(&OpenAi, app, uri, headers, body)))
        .route(
            "/v1beta/openai/chat/completions",
            post(|app, uri, headers, body| fixed(&OpenAi, app, uri, headers, body)),
        )
        .route("/v1/responses", post(|app, uri, headers, body| fixed(&Responses, app, uri, headers, body)))
        .route("/v1beta/models/{call}", post(gemini))
        .route("/v1/messages", post(|app, uri, headers, body| fixed(&Anthropic, app, uri, headers, body)))
        .route("/api/chat", post(|app, uri, headers, body| fixed(&Ollama, app, uri, headers, body)))
        .route("/model/{id}/converse", post(|app, id, uri, headers, body| of_model(false, app, id, uri, headers, body)))
        .route(
            "/model/{id}/converse-stream",
            post(|app, id, uri, headers, body| of_model(true, app, id, uri, headers, body)),
        )
        .route("/v1/models", get(models::list))
        // Google's own library calls version 1 of its API, others the beta of it.
        .route("/v1/models/{id}", get(models::one).post(gemini))
        .route("/foundation-models", get(models::bedrock))
        .route("/api/tags", get(models::tags))
        .route("/api/show", post(models::show))
        .route("/api/version", get(models::version))
        .route("/sim/ledger", get(ledger))
        .route("/sim/stats", get(stats))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

async fn fixed(
    wire: &'static dyn Wire,
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    handle(app, RequestHead { wire, headers, uri, model: None, stream: false }, body).await
}

async fn of_model(
    stream: bool,
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    handle(app, RequestHead { wire: &Bedrock, headers, uri, model: Some(id), stream }, body).await
}

/// Splits `MODEL:METHOD`, of which the path of Gemini's calls consists.
async fn gemini(
    State(app): State<App>,
    Path(call): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let stream = match call.rsplit_once(':') {
        Some((_, "generateContent")) => false,
        Some((_, "streamGenerateContent")) => true,
        _ => return nowhere().await,
    };
    let model = call.rsplit_once(':').map(|(model, _)| model.to_owned());
    handle(app, RequestHead { wire: &Gemini, headers, uri, model, stream }, body).await
}

async fn ledger(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/jsonl")], app.sim.ledger.recent()).into_response()
}

async fn stats(State(app): State<App>) -> Response {
    axum::Json(app.sim.ledger.stats()).into_response()
}

async fn nowhere() -> Response {
    let text = "the simulator answers POST /v1/chat/completions, /v1/responses, /v1/messages, \
                /model/{id}/converse, /model/{id}/converse-stream, /v1beta/models/{id}:generateContent, \
                /v1beta/models/{id}:streamGenerateContent and /api/chat\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

impl Simulator {
    pub(super) fn ids(&self) -> Ids {
        Ids::new(self.boot, self.arrived.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn prefixes(&self) -> &PrefixCache {
        &self.prefixes
    }

    /// Counts a request with this text and returns true for the first `times` of them.
    pub(super) fn must_fail(&self, text: &str, times: u32) -> bool {
        let mut failures = lock(&self.failures);
        if failures.len() >= MAX_COUNTED_TEXTS {
            failures.clear();
        }
        let count = failures.entry(fnv(0, std::iter::once(text))).or_insert(0);
        *count = count.saturating_add(1);
        *count <= times
    }

    /// Counts a request of `second` and returns true when it exceeds the limit.
    pub(super) fn exceeds_rate(&self, second: u64, limit: u32) -> bool {
        let mut window = lock(&self.window);
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 > limit
    }
}
