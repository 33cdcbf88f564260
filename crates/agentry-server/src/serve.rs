//! The running server: the router of all routes, the frame around every endpoint, and graceful shutdown.

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

use crate::auth::Principal;
use crate::auth::guard::guard;
use crate::auth::policy::{RouteAccess, audited, route_access};
use crate::auth::trail::{self, set_security_headers};
use crate::extract::ingress_span;
use crate::metrics::RouteMetrics;
use crate::problem::{ApiProblem, Code};
use crate::routes;
use crate::state::{AppState, ServerDeps};
use crate::tls::{Tls, TlsListener};

/// Serves the API, with TLS when there is a certificate, until `shutdown`. Then streams end and requests in flight get
/// [`crate::ServerLimits::drain`] to finish.
///
/// # Errors
/// Fails when the listener fails.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    deps: ServerDeps,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let drain = deps.limits.drain;
    // Streams and waits have their own token, so that they also end when this future is dropped.
    let streams = shutdown.child_token();
    let _end_streams = streams.clone().drop_guard();
    let router = router_until(deps, streams);
    let until = shutdown.clone().cancelled_owned();
    let serving: BoxFuture<'_, io::Result<()>> = match tls {
        None => Box::pin(axum::serve(with_nodelay(listener), router).with_graceful_shutdown(until).into_future()),
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
            tracing::warn!(after = ?drain, "requests still in flight were aborted");
            Ok(())
        }
    }
}

/// Sets TCP_NODELAY on the connections of a listener.
fn with_nodelay(listener: TcpListener) -> impl axum::serve::Listener<Io = TcpStream, Addr = std::net::SocketAddr> {
    listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    })
}

/// Returns the API as a router, without a listener.
pub fn router(deps: ServerDeps) -> Router {
    router_until(deps, CancellationToken::new())
}

fn router_until(deps: ServerDeps, shutdown: CancellationToken) -> Router {
    let state = AppState::new(deps, shutdown);
    let unrouted = RequestFrame::new(&state, "any", "unrouted", true);
    let mut router = Router::new();
    for route in routes::of_roles(&state.deps.roles) {
        let mut methods = MethodRouter::new().fallback(method_not_allowed).layer(unrouted.clone());
        for (method, handler) in route.methods {
            methods = methods.merge(handler.layer(RequestFrame::new(&state, method, route.path, route.bounded)));
        }
        router = router.route(route.path, methods);
    }
    router.fallback_service(any(route_not_found).layer(unrouted).with_state(state.clone())).with_state(state)
}

async fn route_not_found(State(state): State<AppState>, request: Request) -> ApiProblem {
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
        return ApiProblem::new(Code::RouteNotFound, detail);
    }
    ApiProblem::new(Code::RouteNotFound, format!("there is no `{path}`; /openapi.json lists every route"))
}

async fn method_not_allowed(request: Request) -> ApiProblem {
    let (method, path) = (request.method().clone(), request.uri().path().chars().take(200).collect::<String>());
    ApiProblem::new(
        Code::MethodNotAllowed,
        format!("`{path}` does not take {method}; the `Allow` header has what it takes"),
    )
}

/// The layer around an endpoint: limits requests in flight, measures them, turns a panic into a problem, and renders
/// problems. It is a single layer, so that the hot path has a single boxed future.
#[derive(Clone)]
struct RequestFrame {
    state: AppState,
    metrics: Arc<RouteMetrics>,
    bounded: bool,
    method: &'static str,
    path: &'static str,
    access: RouteAccess,
}

impl RequestFrame {
    fn new(state: &AppState, method: &'static str, path: &'static str, bounded: bool) -> Self {
        let (metrics, access) = (state.metrics.route(method, path), route_access(method, path));
        Self { state: state.clone(), metrics, bounded, method, path, access }
    }

    /// Authorizes a request, calls the endpoint, and audits writes.
    async fn authorize_and_call<S>(&self, endpoint: &mut S, request: &mut Request, trace: TraceId) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let audited = audited(self.method, self.path);
        let guarded = guard(&self.state, self.access, request).await;
        let noted =
            audited.then(|| (request.extensions().get::<Principal>().cloned(), request.uri().path().to_owned()));
        let response = match guarded {
            Err(problem) => problem.into_response(),
            Ok(()) => match endpoint.call(std::mem::take(request)).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        if let Some((caller, path)) = noted {
            let (action, status) = (format!("{} {}", self.method, self.path), response.status().as_u16());
            let caller = caller.or_else(|| response.extensions().get::<Principal>().cloned());
            trail::write(&self.state, caller.as_ref(), action, &path, status, trace.to_string()).await;
        }
        response
    }
}

impl<S: Clone> Layer<S> for RequestFrame {
    type Service = FrameService<S>;

    fn layer(&self, endpoint: S) -> FrameService<S> {
        FrameService { frame: self.clone(), endpoint }
    }
}

/// An endpoint with its frame.
#[derive(Clone)]
struct FrameService<S> {
    frame: RequestFrame,
    endpoint: S,
}

impl<S> Service<Request> for FrameService<S>
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
            // Probes, scrapes and files of the dashboard are not traced.
            let is_work = frame.path.starts_with("/v1/") || frame.path.starts_with("/slack/");
            let sampling = if is_work { frame.state.deps.sampling } else { Sampling::Off };
            let context = ingress_span(request.headers(), sampling);
            request.extensions_mut().insert(context);
            let span = frame.span(&context);
            let response =
                frame.handle(&mut endpoint, &mut request, context.trace.id, started).instrument(span.clone()).await;
            if context.is_exported() {
                record_outcome(&span, response.status());
            }
            Ok(response)
        })
    }
}

/// Records the outcome of a request on its span. A client error is no failure of the server.
fn record_outcome(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
    }
}

impl RequestFrame {
    /// Returns the span of a request.
    fn span(&self, context: &SpanContext) -> Span {
        tracing::info_span!(
            target: TARGET, "request", trace_id = context.trace.id.0,
            span_id = context.is_exported().then_some(context.span.0.get()), parent_id = context.parent_id(),
            otel.name = %format_args!("{} {}", self.method, self.path), otel.kind = "server",
            http.request.method = self.method, http.route = self.path,
            http.response.status_code = Empty, "error.type" = Empty,
        )
    }

    /// Handles a request within the limit of requests in flight.
    async fn handle<S>(&self, endpoint: &mut S, request: &mut Request, trace: TraceId, started: Instant) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let most = if self.bounded { self.state.deps.limits.max_in_flight } else { usize::MAX };
        let response = match self.state.metrics.enter(most) {
            None => overloaded(most).into_response(),
            Some(_in_flight) => {
                match AssertUnwindSafe(self.authorize_and_call(endpoint, request, trace)).catch_unwind().await {
                    Ok(response) => response,
                    Err(panic) => panicked(&*panic).into_response(),
                }
            }
        };
        let mut response = finish(response, trace);
        set_security_headers(response.headers_mut(), self.state.deps.access.tls);
        self.metrics.observe(response.status().as_u16(), started.elapsed());
        response
    }
}

fn overloaded(most: usize) -> ApiProblem {
    ApiProblem::new(Code::Overloaded, format!("{most} requests are in flight, the most this server takes"))
        .retry_after(Duration::from_secs(1))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ApiProblem {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("not text"), "a handler panicked");
    ApiProblem::new(Code::Internal, "a fault in Agentry ended this request; the log has it")
}

/// Renders the problem of a response, with the trace id of the request.
fn finish(mut response: Response, trace: TraceId) -> Response {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let Some(problem) = response.extensions_mut().remove::<ApiProblem>() else { return response };
    if response.status().is_server_error() {
        tracing::warn!(code = problem.code.as_str(), detail = %problem.detail, "request failed");
    }
    problem.render(response, &trace.to_string())
}
