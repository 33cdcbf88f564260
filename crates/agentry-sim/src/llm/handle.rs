//! One request from its body to its answer, the same for every protocol.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::ask::{Ask, Tally};
use super::brain::{Conversation, think};
use super::directive::{Directive, Found, find};
use super::emission::{After, Emission, Pace, drops, first_half, half};
use super::fault::{Fault, drawn};
use super::latency::draw;
use super::ledger::{End, Entry};
use super::limits::{Levels, Over};
use super::server::App;
use super::wanted::{extra, failure, tally};
use super::wire::{Incoming, Piece, Refusal, Reply, Wire};
use crate::clock::since_epoch;

/// What draws of times are told apart by from draws of faults.
const TIME_SALT: u64 = 0x7474_6674;
/// The page of `[[html]]`.
const HTML: &str =
    "<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Please sign in</h1></body></html>";
/// What a whole answer that never ends consists of; JSON may begin with it.
const BLANKS: &[u8] = &[b' '; 64];
/// Models that are not there have names that begin so.
pub(super) const UNKNOWN: &str = "unknown";
/// Models that know no tools have names that contain this.
pub(super) const NO_TOOLS: &str = "no-tools";

/// A request beside its body.
pub(super) struct Head {
    /// The protocol.
    pub(super) wire: &'static dyn Wire,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The address, as it came.
    pub(super) uri: Uri,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
    /// Whether the path asks for a stream.
    pub(super) stream: bool,
}

/// Answers a request.
pub(super) async fn handle(app: App, head: Head, body: Result<Bytes, BytesRejection>) -> Response {
    let ids = app.sim.ids();
    let request_id = ["x-request-id", "x-client-request-id"].iter().find_map(|name| head.headers.get(*name));
    let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    let entry = Entry::begin(app.sim.ledger(), head.wire.name(), ids, request_id);
    let call = Call { app, wire: head.wire, ids, entry, asked_at: since_epoch(), levels: Levels::default() };
    if let Some(wanted) = &call.app.sim.options.require_key {
        let key = head.wire.key(&head.headers).filter(|key| !key.is_empty());
        if key != Some(wanted.expose_secret()) {
            return call.refuse(&head.wire.no_key(key));
        }
    }
    let body = match body {
        Ok(body) => body,
        Err(problem) => return call.refuse(&Refusal::new(problem.status().as_u16(), problem.body_text())),
    };
    let incoming = Incoming {
        headers: &head.headers,
        body: &body,
        path: head.uri.path(),
        query: head.uri.query(),
        model: head.model.as_deref(),
        stream: head.stream,
    };
    if let Some(secret) = &call.app.sim.options.aws_secret
        && let Err(refusal) = head.wire.check_signature(&incoming, secret.expose_secret())
    {
        return call.refuse(&refusal);
    }
    match head.wire.read(&incoming) {
        Ok(ask) => call.answer(&ask).await,
        Err(refusal) => call.refuse(&refusal),
    }
}

/// One request on its way through the simulator.
struct Call {
    app: App,
    wire: &'static dyn Wire,
    ids: super::ids::Ids,
    entry: Entry,
    asked_at: Duration,
    levels: Levels,
}

impl Call {
    async fn answer(mut self, ask: &Ask<'_>) -> Response {
        let sim = Arc::clone(&self.app.sim);
        let (options, wire, ids) = (&sim.options, self.wire, self.ids);
        let last_user = Conversation::of(ask).last_user;
        let directives = find(last_user);
        let answer = if ask.messages.is_empty() { Answer::text("") } else { think(options.seed, ask) };
        let tally = tally(ask, &answer, &directives);
        self.entry.asked(&ask.model, ask.stream, &tally);
        if ask.model.starts_with(UNKNOWN) {
            return self.refuse(&wire.no_model(&ask.model));
        }
        if ask.model.contains(NO_TOOLS) && !ask.tools.is_empty() {
            return self.refuse(&wire.no_tools(&ask.model));
        }
        let first = options.profile.first_token(draw(options.seed ^ TIME_SALT, self.ids.n)) + extra(&directives);
        let first_at = self.entry.began() + first;
        let fault = match self.asked_for(last_user, &directives) {
            Asked::Fail(refusal) => {
                wait_until(first_at).await;
                return self.refuse(&refusal);
            }
            Asked::Fault(fault) => Some(fault),
            Asked::Nothing => match self.over(ask, &tally) {
                Some(refusal) => return self.refuse(&refusal),
                None => drawn(&options.faults, options.seed, self.ids.n),
            },
        };
        let each = options.profile.per_token();
        let output = u32::try_from(tally.output).unwrap_or(u32::MAX);
        let total = first + each * output;
        match fault {
            Some(Fault::Fail(status)) => {
                wait_until(first_at).await;
                let refusal = failure(status, None);
                return self.refuse(&refusal);
            }
            Some(Fault::Hang) => return self.hang().await,
            Some(Fault::Html) => return self.html(),
            Some(Fault::Disconnect) => return self.disconnect(),
            _ => {}
        }
        let asked_at = self.asked_at;
        let reply = Reply { ids: &ids, ask, answer: &answer, tally, asked_at, first, total };
        let pieces = if ask.stream {
            wire.stream(&reply)
        } else {
            wait_until(self.entry.began() + total).await;
            wire.whole(&reply)
                .map(|body| vec![Piece { bytes: body.into(), tokens: tally.output, reasoning: tally.reasoning }])
        };
        match pieces {
            Ok(pieces) => self.send(ask.stream, pieces, Pace::Tokens(first_at, each), fault),
            Err(problem) => self.refuse(&Refusal::new(500, problem.to_string())),
        }
    }

    /// Sends an answer, or what a fault leaves of it.
    fn send(mut self, stream: bool, pieces: Vec<Piece>, pace: Pace, fault: Option<Fault>) -> Response {
        if let (false, Some(Fault::Break(status))) = (stream, fault) {
            return self.refuse(&failure(status, None));
        }
        let mut pace = pace;
        let (pieces, after) = match fault {
            Some(Fault::Truncate) => (half(pieces), After::Cut(End::Truncated)),
            Some(Fault::Garble) if stream => {
                let mut pieces = first_half(pieces);
                pieces.push(Piece::frame(self.wire.garbage()));
                (pieces, After::Close(End::Garbled))
            }
            Some(Fault::Garble) => (half(pieces), After::Close(End::Garbled)),
            Some(Fault::Break(status)) => {
                let mut pieces = first_half(pieces);
                pieces.push(Piece::frame(self.wire.broken(&failure(status, None))));
                (pieces, After::Close(End::Broken))
            }
            Some(Fault::Drip(interval)) => {
                let (Pace::Tokens(first, _) | Pace::Pieces(first, _)) = pace;
                pace = Pace::Pieces(first, interval);
                (drops(pieces), After::Close(End::Completed))
            }
            Some(Fault::Endless) if stream => endless(pieces),
            Some(Fault::Endless) => (Vec::new(), After::Repeat(Piece::frame(Bytes::from_static(BLANKS)))),
            _ => (pieces, After::Close(End::Completed)),
        };
        self.entry.head(StatusCode::OK.as_u16(), self.wire.id(&self.ids, true));
        let (kind, levels, now) =
            (if stream { self.wire.stream_type() } else { "application/json" }, self.levels, self.asked_at);
        let (wire, ids) = (self.wire, self.ids);
        let is_plain = !stream && matches!(fault, None | Some(Fault::Garble));
        let body = if is_plain {
            self.plain(pieces, fault)
        } else {
            Emission::body(self.entry, pieces, pace, after, self.app.shutdown)
        };
        let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
        if stream {
            response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
        }
        wire.stamp(response.headers_mut(), &ids, &levels, now);
        response
    }

    /// A whole body with its length.
    fn plain(mut self, pieces: Vec<Piece>, fault: Option<Fault>) -> Body {
        let piece = super::emission::joined(pieces);
        self.entry.sent(piece.tokens, piece.reasoning);
        self.entry.end(if fault.is_some() { End::Garbled } else { End::Completed });
        Body::from(piece.bytes)
    }

    fn refuse(mut self, refusal: &Refusal) -> Response {
        let mut response = self.wire.error(refusal, &self.ids);
        self.wire.stamp(response.headers_mut(), &self.ids, &self.levels, self.asked_at);
        self.entry.head(response.status().as_u16(), self.wire.id(&self.ids, false));
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        self.entry.come_back(seconds);
        self.entry.end(End::Failed);
        response
    }

    /// What the message asks to have gone wrong.
    fn asked_for(&self, text: &str, directives: &[Found<'_>]) -> Asked {
        for found in directives {
            match found.directive {
                Directive::Fault(fault) => return Asked::Fault(fault),
                Directive::Drip(interval) => return Asked::Fault(Fault::Drip(interval)),
                Directive::Fail { status, times, retry_after }
                    if times.is_none_or(|times| self.app.sim.fails_still(text, times)) =>
                {
                    return Asked::Fail(failure(status, retry_after));
                }
                _ => {}
            }
        }
        Asked::Nothing
    }

    /// Why the request is over a limit, when it is.
    fn over(&mut self, ask: &Ask<'_>, tally: &Tally) -> Option<Refusal> {
        let sim = &self.app.sim;
        if sim.options.rate_limit.is_some_and(|limit| sim.is_over(self.asked_at.as_secs(), limit)) {
            return Some(failure(429, None));
        }
        let (levels, taken) = sim.limits().take(&ask.model, tally.input, tally.output, self.entry.began());
        self.levels = levels;
        let Over { of, limit, wait } = taken.err()?;
        let message = format!(
            "Rate limit reached for {} on {of} per min: Limit {limit}. Please try again in {:.3}s.",
            ask.model,
            wait.as_secs_f64()
        );
        let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
        Some(Refusal { retry_after: Some(seconds), ..Refusal::new(429, message) })
    }

    /// Nothing until the simulator ends.
    async fn hang(mut self) -> Response {
        self.entry.end(End::Hung);
        self.app.shutdown.cancelled().await;
        failed_body()
    }

    fn html(mut self) -> Response {
        self.entry.head(StatusCode::OK.as_u16(), String::new());
        self.entry.end(End::Html);
        ([(header::CONTENT_TYPE, "text/html")], HTML).into_response()
    }

    fn disconnect(mut self) -> Response {
        self.entry.end(End::Disconnected);
        failed_body()
    }
}

/// What a message asks for beside its answer.
enum Asked {
    Nothing,
    Fail(Refusal),
    Fault(Fault),
}

/// A response that is never sent: the server drops a head that it has not written when the body fails at once.
fn failed_body() -> Response {
    let end = stream::once(std::future::ready(Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted))));
    Body::from_stream(end).into_response()
}

/// Everything up to the last piece of content, then that one for ever.
fn endless(mut pieces: Vec<Piece>) -> (Vec<Piece>, After) {
    let last = pieces.iter().rposition(|piece| piece.tokens > piece.reasoning);
    pieces.truncate(last.map_or(pieces.len(), |last| last + 1));
    let repeated = pieces.last().cloned().unwrap_or_else(|| Piece::frame(Bytes::from_static(BLANKS)));
    (pieces, After::Repeat(repeated))
}

/// Returns at once when the moment has passed: the instant profile never touches a timer.
async fn wait_until(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}
