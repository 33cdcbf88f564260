//! From the table of routes to a running server: the frame around every endpoint, and the way down.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use agentry_core::trace::{Sampling, SpanContext, TARGET, TraceId};
use agentry_core::worker::Role;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use axum::serve::ListenerExt as _;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::auth::Caller;
use crate::auth::guard::guard;
use crate::auth::policy::{Need, audited, need};
use crate::auth::trail::{self, strict};
use crate::extract::place_at_door;
use crate::metrics::RouteMetrics;
use crate::problem::{Code, Problem};
use crate::routes;
use crate::state::{AppState, ServerDeps};
use crate::tls::{Tls, TlsListener};

/// Serves the API, by TLS when there is a certificate, until `shutdown`; then streams end, requests in flight get [`crate::Limits::drain`], and it returns.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    deps: ServerDeps,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let drain = deps.limits.drain;
    // Streams and waits hang on a token of their own: when this future is dropped, they end too.
    let streams = shutdown.child_token();
    let _end_streams = streams.clone().drop_guard();
    let router = router_until(deps, streams);
    let until = shutdown.clone().cancelled_owned();
    let serving: BoxFuture<'_, io::Result<()>> = match tls {
        None => Box::pin(axum::serve(tapped(listener), router).with_graceful_shutdown(until).into_future()),
        Some(tls) => {
            let listener = TlsListener::new(listener, tls)?;
            Box::pin(axum::serve(listener, router).with_graceful_shutdown(until).into_future())
        }
    };
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = deadline => {
            tracing::warn!(after = ?drain, "requests still in flight were cut off");
            Ok(())
        }
    }
}

/// The listener, whose connections send small answers at once.
fn tapped(listener: TcpListener) -> impl axum::serve::Listener<Io = TcpStream, Addr = std::net::SocketAddr> {
    listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    })
}

/// The whole API as a service, without a listener.
pub fn router(deps: ServerDeps) -> Router {
    router_until(deps, CancellationToken::new())
}

fn router_until(deps: ServerDeps, shutdown: CancellationToken) -> Router {
    let state = AppState::new(deps, shutdown);
    let unrouted = Frame::new(&state, "any", "unrouted", true);
    let mut router = Router::new();
    for route in routes::of_roles(&state.deps.roles) {
        let mut methods = MethodRouter::new().fallback(method_not_allowed).layer(unrouted.clone());
        for (method, handler) in route.methods {
            methods = methods.merge(handler.layer(Frame::new(&state, method, route.path, route.bounded)));
        }
        router = router.route(route.path, methods);
    }
    router.fallback_service(any(route_not_found).layer(unrouted).with_state(state.clone())).with_state(state)
}

async fn route_not_found(State(state): State<AppState>, request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    let roles = &state.deps.roles;
    let wanted = if path.starts_with("/slack/") { Role::Slack } else { Role::Api };
    if !roles.contains(&wanted) {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let detail = format!(
            "`{path}` is answered by processes with the role `{}`; this one is {} and answers /health/live, \
             /health/ready and /metrics",
            wanted.as_str(),
            roles.join(", ")
        );
        return Problem::new(Code::RouteNotFound, detail);
    }
    Problem::new(Code::RouteNotFound, format!("there is no `{path}`; /openapi.json lists every route"))
}

async fn method_not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method().clone(), request.uri().path().chars().take(200).collect::<String>());
    Problem::new(
        Code::MethodNotAllowed,
        format!("`{path}` does not take {method}; the `Allow` header has what it takes"),
    )
}

/// The frame around an endpoint: bounds requests in flight, counts and times them, turns a panic into a problem, and
/// gives every problem its body. One layer, so that the hot path crosses one box.
#[derive(Clone)]
struct Frame {
    state: AppState,
    metrics: Arc<RouteMetrics>,
    bounded: bool,
    method: &'static str,
    path: &'static str,
    need: Need,
}

impl Frame {
    fn new(state: &AppState, method: &'static str, path: &'static str, bounded: bool) -> Self {
        let (metrics, need) = (state.metrics.route(method, path), need(method, path));
        Self { state: state.clone(), metrics, bounded, method, path, need }
    }
}

impl Frame {
    /// Guards a request, answers it, and writes down what it may have changed.
    async fn answer<S>(&self, endpoint: &mut S, request: &mut Request, trace: TraceId) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let audited = audited(self.method, self.path);
        let guarded = guard(&self.state, self.need, request).await;
        let noted = audited.then(|| (request.extensions().get::<Caller>().cloned(), request.uri().path().to_owned()));
        let response = match guarded {
            Err(problem) => problem.into_response(),
            Ok(()) => match endpoint.call(std::mem::take(request)).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        if let Some((caller, path)) = noted {
            let (action, status) = (format!("{} {}", self.method, self.path), response.status().as_u16());
            let caller = caller.or_else(|| response.extensions().get::<Caller>().cloned());
            trail::write(&self.state, caller.as_ref(), action, &path, status, trace.to_string()).await;
        }
        response
    }
}

impl<S: Clone> Layer<S> for Frame {
    type Service = Framed<S>;

    fn layer(&self, endpoint: S) -> Framed<S> {
        Framed { frame: self.clone(), endpoint }
    }
}

/// An endpoint in its frame.
#[derive(Clone)]
struct Framed<S> {
    frame: Frame,
    endpoint: S,
}

impl<S> Service<Request> for Framed<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.endpoint.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let frame = self.frame.clone();
        let mut endpoint = self.endpoint.clone();
        Box::pin(async move {
            // Probes, scrapes and the dashboard's files come all the time and are part of nothing.
            let is_work = frame.path.starts_with("/v1/") || frame.path.starts_with("/slack/");
            let sampling = if is_work { frame.state.deps.sampling } else { Sampling::Off };
            let place = place_at_door(request.headers(), sampling);
            request.extensions_mut().insert(place);
            let span = frame.span(&place);
            let response =
                frame.take(&mut endpoint, &mut request, place.trace.id, started).instrument(span.clone()).await;
            if place.is_exported() {
                note_end(&span, response.status());
            }
            Ok(response)
        })
    }
}

/// What came of a request, on its span. A bad request is the caller's failure, not the server's.
fn note_end(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
    }
}

impl Frame {
    /// The span of a request.
    fn span(&self, place: &SpanContext) -> Span {
        tracing::info_span!(
            target: TARGET, "request", trace_id = place.trace.id.0,
            span_id = place.is_exported().then_some(place.span.0.get()), parent_id = place.parent_id(),
            otel.name = %format_args!("{} {}", self.method, self.path), otel.kind = "server",
            http.request.method = self.method, http.route = self.path,
            http.response.status_code = Empty, "error.type" = Empty,
        )
    }

    /// A request from the bound on those in flight to its answer.
    async fn take<S>(&self, endpoint: &mut S, request: &mut Request, trace: TraceId, started: Instant) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let most = if self.bounded { self.state.deps.limits.max_in_flight } else { usize::MAX };
        let response = match self.state.metrics.enter(most) {
            None => overloaded(most).into_response(),
            Some(_in_flight) => match AssertUnwindSafe(self.answer(endpoint, request, trace)).catch_unwind().await {
                Ok(response) => response,
                Err(panic) => panicked(&*panic).into_response(),
            },
        };
        let mut response = finish(response, trace);
        strict(response.headers_mut(), self.state.deps.access.tls);
        self.metrics.observe(response.status().as_u16(), started.elapsed());
        response
    }
}

fn overloaded(most: usize) -> Problem {
    Problem::new(Code::Overloaded, format!("{most} requests are in flight, the most this server takes"))
        .retry_after(Duration::from_secs(1))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Problem {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("not text"), "a handler panicked");
    Problem::new(Code::Internal, "a fault in Agentry ended this request; the log has it")
}

/// Gives a problem its body under the request's trace id.
fn finish(mut response: Response, trace: TraceId) -> Response {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    if response.status().is_server_error() {
        tracing::warn!(code = problem.code.as_str(), detail = %problem.detail, "request failed");
    }
    problem.render(response, &trace.to_string())
}
