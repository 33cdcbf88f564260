//! The server: one endpoint that answers, three that tell what was asked.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::brain::{Answer, Conversation, fnv, think};
use super::directive::{Directive, find};
use super::latency::{Profile, draw, happens};
use super::ledger::{Ledger, Line, Stats};
use super::reply::{Head, Usage, completion, events};
use super::wire::Request;

/// The largest request that is read, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// How often the ledger is handed to the operating system.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// How long open connections have to end after the shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Texts whose failures are counted at once, for `[[fail:STATUS:N]]`; more make it forget.
const MAX_COUNTED_TEXTS: usize = 10_000;
/// The page of `[[html]]`.
const HTML: &str =
    "<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Please sign in</h1></body></html>";

/// How the simulator behaves.
#[derive(Debug, Clone, Default)]
pub struct SimOptions {
    /// How long answers take.
    pub profile: Profile,
    /// What answers, times and failures depend on.
    pub seed: u64,
    /// The share of requests that fail with 500, from 0 to 1; which ones depends on the seed.
    pub error_rate: f64,
    /// Requests of one second at most; more are answered with 429 and `Retry-After: 1`.
    pub rate_limit: Option<u32>,
    /// The file that the ledger is appended to.
    pub ledger: Option<PathBuf>,
}

/// The simulator. Clones are the same one.
#[derive(Debug, Clone)]
pub struct LlmSim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: SimOptions,
    ledger: Ledger,
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
        let ledger = Ledger::open(options.ledger.as_deref())?;
        let (arrived, failures, window) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { options, ledger, arrived, failures, window }) })
    }

    /// Answers on `listener` until `shutdown`; the base URL is `http://ADDRESS/v1`. The ledger is complete when this
    /// returns.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let app = App { sim: Arc::clone(&self.inner), shutdown: shutdown.clone() };
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .route("/sim/ledger", get(ledger))
            .route("/sim/stats", get(stats))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(app);
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
        });
        let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let end = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        let flush = async {
            loop {
                sleep(FLUSH_INTERVAL).await;
                self.inner.ledger.flush();
            }
        };
        let result = tokio::select! {
            result = server.into_future() => result,
            () = end => Ok(()),
            () = flush => Ok(()),
        };
        self.inner.ledger.flush();
        result
    }

    /// What was asked so far, in sums.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.ledger.stats()
    }

    /// The last lines of the ledger (JSON Lines), oldest first.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.inner.ledger.recent()
    }
}

#[derive(Clone)]
struct App {
    sim: Arc<Inner>,
    shutdown: CancellationToken,
}

/// What is done with a request.
enum Verdict {
    Answer { cut: bool },
    Fail(StatusCode, &'static str),
    Html,
    Hang,
}

async fn ledger(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/jsonl")], app.sim.ledger.recent()).into_response()
}

async fn stats(State(app): State<App>) -> Response {
    axum::Json(app.sim.ledger.stats()).into_response()
}

async fn models() -> Response {
    let model = |id: &str| serde_json::json!({"id": id, "object": "model", "created": 0, "owned_by": "agentry-sim"});
    let list = serde_json::json!({"object": "list", "data": [model("sim-small"), model("sim-large")]});
    axum::Json(list).into_response()
}

async fn chat(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let sim = &app.sim;
    let n = sim.arrived.fetch_add(1, Ordering::Relaxed) + 1;
    let began = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let t_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let mut line =
        Line { n, request_id, model: "", input_tokens: 0, output_tokens: 0, status: 400, end: "failed", t_us };
    let request: Request<'_> = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(problem) => {
            sim.ledger.write(&line);
            return error(StatusCode::BAD_REQUEST, &format!("the request is not a chat completion: {problem}"));
        }
    };
    (line.model, line.input_tokens) = (request.model.as_ref(), request.tokens());
    let last_user = Conversation::of(&request).last_user;
    let directives = find(last_user);
    let extra: Duration = directives
        .iter()
        .filter_map(|found| match found.directive {
            Directive::Sleep(wait) => Some(wait),
            _ => None,
        })
        .sum();
    let verdict = sim.verdict(n, now.as_secs(), last_user, directives.iter().map(|found| &found.directive));
    let answer = match verdict {
        Verdict::Answer { .. } => think(sim.options.seed, &request),
        _ => Answer::Text(String::new()),
    };
    (line.status, line.end) = match verdict {
        Verdict::Answer { cut: false } => (200, "completed"),
        Verdict::Answer { cut: true } => (200, "truncated"),
        Verdict::Fail(status, _) => (status.as_u16(), "failed"),
        Verdict::Html => (200, "html"),
        Verdict::Hang => (0, "hung"),
    };
    if line.end == "completed" {
        line.output_tokens = answer.tokens();
    }
    // Written before anything is waited for: a client that goes away has asked all the same.
    sim.ledger.write(&line);
    let first = began + extra + sim.options.profile.first_token(draw(sim.options.seed ^ 0x7474_6674, n));
    let cut = match verdict {
        Verdict::Answer { cut } => cut,
        Verdict::Fail(status, message) => {
            wait_until(first).await;
            return error(status, message);
        }
        Verdict::Html => return ([(header::CONTENT_TYPE, "text/html")], HTML).into_response(),
        Verdict::Hang => {
            app.shutdown.cancelled().await;
            return error(StatusCode::SERVICE_UNAVAILABLE, "the simulator ends");
        }
    };
    let usage = Usage::new(line.input_tokens, answer.tokens());
    let head = Head { n, model: &request.model, created: now.as_secs(), usage };
    let per_token = sim.options.profile.per_token();
    let response = if request.stream == Some(true) {
        let include_usage = request.stream_options.is_some_and(|options| options.include_usage);
        let events = events(&head, &answer, include_usage).map(|events| (events, first, per_token));
        events.map(|(events, first, per_token)| streamed(events, first, per_token, cut, app.shutdown.clone()))
    } else {
        let tokens = u32::try_from(answer.tokens()).unwrap_or(u32::MAX);
        wait_until(first + per_token * tokens).await;
        completion(&head, &answer).map(|body| whole(body, cut))
    };
    let mut response =
        response.unwrap_or_else(|problem| error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

impl Inner {
    /// What is done with request `n`, by its text, the rate limit and the error rate, in this order.
    fn verdict<'d>(
        &self,
        n: u64,
        second: u64,
        text: &str,
        directives: impl Iterator<Item = &'d Directive<'d>>,
    ) -> Verdict {
        for directive in directives {
            match directive {
                Directive::Hang => return Verdict::Hang,
                Directive::Html => return Verdict::Html,
                Directive::Truncate => return Verdict::Answer { cut: true },
                Directive::Fail { status, times } if times.is_none_or(|times| self.fails_still(text, times)) => {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return Verdict::Fail(status, "failed as the message asked");
                }
                _ => {}
            }
        }
        if self.options.rate_limit.is_some_and(|limit| self.is_over(second, limit)) {
            return Verdict::Fail(StatusCode::TOO_MANY_REQUESTS, "Rate limit reached for requests");
        }
        if happens(self.options.error_rate, draw(self.options.seed, n)) {
            return Verdict::Fail(StatusCode::INTERNAL_SERVER_ERROR, "The server had an error processing your request");
        }
        Verdict::Answer { cut: false }
    }

    /// Whether a request with this text is one of the first `times`.
    fn fails_still(&self, text: &str, times: u32) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_COUNTED_TEXTS {
            failures.clear();
        }
        let count = failures.entry(fnv(0, std::iter::once(text))).or_insert(0);
        *count = count.saturating_add(1);
        *count <= times
    }

    /// Whether this request of `second` is more than the limit.
    fn is_over(&self, second: u64, limit: u32) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 > limit
    }
}

/// Returns at once when the moment has passed: the instant profile never touches a timer.
async fn wait_until(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}

fn whole(body: Vec<u8>, cut: bool) -> Response {
    let body = if cut { broken(vec![Bytes::from(body)]) } else { Body::from(body) };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn streamed(
    events: Vec<Bytes>,
    first: Instant,
    per_token: Duration,
    cut: bool,
    shutdown: CancellationToken,
) -> Response {
    let body = if cut {
        broken(events)
    } else if per_token.is_zero() && first <= Instant::now() {
        Body::from_stream(stream::once(std::future::ready(Ok::<_, io::Error>(Bytes::from(events.concat())))))
    } else {
        Body::from_stream(paced(events, first, per_token).take_until(shutdown.cancelled_owned()))
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

/// The first event at `first`, every other one token later; what follows the last token comes with it.
fn paced(events: Vec<Bytes>, first: Instant, per_token: Duration) -> impl Stream<Item = Result<Bytes, io::Error>> {
    stream::iter(events).enumerate().then(move |(index, event)| async move {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        wait_until(first + per_token * index).await;
        Ok(event)
    })
}

/// Half of the answer, then a connection that is closed without its end.
fn broken(parts: Vec<Bytes>) -> Body {
    let all = Bytes::from(parts.concat());
    let half = all.slice(..all.len() / 2);
    let end = stream::once(async {
        // The half is sent first: hyper drops what it has not written when a body fails.
        sleep(Duration::from_millis(5)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(stream::iter([Ok(half)]).chain(end))
}

/// An error in OpenAI's form.
fn error(status: StatusCode, message: &str) -> Response {
    let (kind, code) = match status.as_u16() {
        401 | 403 => ("invalid_request_error", Some("invalid_api_key")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let body = serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response.headers_mut().insert("x-ratelimit-remaining-requests", HeaderValue::from_static("0"));
    }
    response
}
