//! The server: the endpoints of four protocols on one listener, and two that tell what was asked.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::brain::fnv;
use super::fault::FaultRate;
use super::handle::{Head, handle};
use super::ids::Ids;
use super::latency::Profile;
use super::ledger::{Ledger, Stats};
use super::limits::Limits;
use super::models;
use super::wire::Wire;
use super::wire::anthropic::Anthropic;
use super::wire::bedrock::Bedrock;
use super::wire::ollama::Ollama;
use super::wire::openai::OpenAi;
use crate::clock::now_us;

/// The largest request that is read, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// How long open connections have to end after the shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Texts whose failures are counted at once, for `[[fail:STATUS:N]]`; more make it forget.
const MAX_COUNTED_TEXTS: usize = 10_000;

/// How the simulator behaves.
#[derive(Debug, Clone, Default)]
pub struct SimOptions {
    /// How long answers take.
    pub profile: Profile,
    /// What answers, times and faults depend on.
    pub seed: u64,
    /// What goes wrong how often; which requests it hits depends on the seed.
    pub faults: Vec<FaultRate>,
    /// Requests of one second at most; more are answered with 429 and `Retry-After: 1`.
    pub rate_limit: Option<u32>,
    /// Requests of a minute and model at most.
    pub rpm: Option<u64>,
    /// Tokens of a minute and model at most.
    pub tpm: Option<u64>,
    /// The key that every request must bring; of signed requests, the access key.
    pub require_key: Option<SecretString>,
    /// The secret with which requests to Bedrock must be signed.
    pub aws_secret: Option<SecretString>,
    /// The file that the ledger is appended to.
    pub ledger: Option<PathBuf>,
}

/// The simulator. Clones are the same one.
#[derive(Debug, Clone)]
pub struct LlmSim {
    inner: Arc<Inner>,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Inner {
    /// How it behaves.
    pub(super) options: SimOptions,
    ledger: Arc<Ledger>,
    limits: Limits,
    boot: u64,
    arrived: AtomicU64,
    failures: Mutex<HashMap<u64, u32>>,
    window: Mutex<(u64, u32)>,
}

impl LlmSim {
    /// A simulator.
    ///
    /// # Errors
    /// When the ledger's file cannot be opened.
    pub fn new(options: SimOptions) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::open(options.ledger.as_deref())?);
        let inner = Inner {
            limits: Limits::new(options.rpm, options.tpm),
            options,
            ledger,
            boot: now_us(),
            arrived: AtomicU64::new(0),
            failures: Mutex::default(),
            window: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Answers on `listener` until `shutdown`. Base URLs: `http://ADDRESS/v1` for clients of OpenAI's protocol,
    /// `http://ADDRESS` for all others. The ledger is complete when this returns.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
        });
        let app = App { sim: Arc::clone(&self.inner), shutdown: shutdown.clone() };
        let server = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let end = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            result = server.into_future() => result,
            () = end => Ok(()),
        }
    }

    /// Requests that have arrived, those that have not ended included.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.inner.arrived.load(Ordering::Relaxed)
    }

    /// What was asked so far, in sums.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.ledger.stats()
    }

    /// The last lines of the ledger (JSON Lines), in the order in which requests ended.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.inner.ledger.recent()
    }
}

/// What a handler gets.
#[derive(Clone)]
pub(super) struct App {
    /// The simulator.
    pub(super) sim: Arc<Inner>,
    /// Cancelled when it ends.
    pub(super) shutdown: CancellationToken,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(|app, uri, headers, body| fixed(&OpenAi, app, uri, headers, body)))
        .route("/v1/messages", post(|app, uri, headers, body| fixed(&Anthropic, app, uri, headers, body)))
        .route("/api/chat", post(|app, uri, headers, body| fixed(&Ollama, app, uri, headers, body)))
        .route("/model/{id}/converse", post(|app, id, uri, headers, body| of_model(false, app, id, uri, headers, body)))
        .route(
            "/model/{id}/converse-stream",
            post(|app, id, uri, headers, body| of_model(true, app, id, uri, headers, body)),
        )
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
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
    handle(app, Head { wire, headers, uri, model: None, stream: false }, body).await
}

async fn of_model(
    stream: bool,
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    handle(app, Head { wire: &Bedrock, headers, uri, model: Some(id), stream }, body).await
}

async fn ledger(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/jsonl")], app.sim.ledger.recent()).into_response()
}

async fn stats(State(app): State<App>) -> Response {
    axum::Json(app.sim.ledger.stats()).into_response()
}

async fn nowhere() -> Response {
    let text = "the simulator answers POST /v1/chat/completions, /v1/messages, /model/{id}/converse, \
                /model/{id}/converse-stream and /api/chat\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

impl Inner {
    /// The ids of the next request.
    pub(super) fn ids(&self) -> Ids {
        Ids::new(self.boot, self.arrived.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// The limits per minute.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a request with this text is one of the first `times`.
    pub(super) fn fails_still(&self, text: &str, times: u32) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_COUNTED_TEXTS {
            failures.clear();
        }
        let count = failures.entry(fnv(0, std::iter::once(text))).or_insert(0);
        *count = count.saturating_add(1);
        *count <= times
    }

    /// Whether this request of `second` is more than the limit.
    pub(super) fn is_over(&self, second: u64, limit: u32) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 > limit
    }
}
