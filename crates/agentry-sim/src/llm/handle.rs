//! Handles one request from body to answer, the same way for every protocol.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::directive::{Directive, DirectiveMatch, find};
use super::fault::{Fault, drawn};
use super::fingerprint::RequestPrint;
use super::generate::{Conversation, generate};
use super::latency::draw;
use super::ledger::{LedgerEntry, RequestEnd};
use super::limits::{BucketLevels, LimitExceeded};
use super::overrides::{added_delay, counts, failure, hides_usage};
use super::paced_body::{Ending, Pace, PacedBody, drops, first_half, half};
use super::prompt::{Prompt, TokenCounts};
use super::rules::model::is_retired;
use super::server::App;
use super::wire::{Incoming, Piece, Refusal, Reply, Wire};
use crate::clock::since_epoch;
use crate::server::aborted_response;

const TIME_SALT: u64 = 0x7474_6674;
const HTML: &str =
    "<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Please sign in</h1></body></html>";
/// Body of a whole answer that never ends; JSON may begin with white space.
const BLANKS: &[u8] = &[b' '; 64];
/// Prefix of model names that do not exist.
pub(super) const UNKNOWN: &str = "unknown";
/// Part of the names of models that do not support tools.
pub(super) const NO_TOOLS: &str = "no-tools";

pub(super) struct RequestHead {
    pub(super) wire: &'static dyn Wire,
    pub(super) headers: HeaderMap,
    pub(super) uri: Uri,
    /// Model named by the path.
    pub(super) model: Option<String>,
    /// The path asks for a stream.
    pub(super) stream: bool,
}

pub(super) async fn handle(app: App, head: RequestHead, body: Result<Bytes, BytesRejection>) -> Response {
    let ids = app.sim.ids();
    let request_id = ["x-request-id", "x-client-request-id"].iter().find_map(|name| head.headers.get(*name));
    let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    let entry = LedgerEntry::begin(app.sim.ledger(), head.wire.name(), ids, request_id);
    let account = RequestPrint::default().text(head.wire.key(&head.headers).unwrap_or_default());
    let (wire, levels) = (head.wire, BucketLevels::default());
    let call = Exchange { app, wire, ids, entry, account, asked_at: since_epoch(), levels };
    if let Some(required_key) = &call.app.sim.options.require_key {
        let key = head.wire.key(&head.headers).filter(|key| !key.is_empty());
        if key != Some(required_key.expose_secret()) {
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
        Ok(prompt) => call.answer(&prompt).await,
        Err(refusal) => call.refuse_broken_rule(&refusal),
    }
}

struct Exchange {
    app: App,
    wire: &'static dyn Wire,
    ids: super::ids::Ids,
    entry: LedgerEntry,
    /// Whoever sent the request, for the cache of prefixes.
    account: RequestPrint,
    asked_at: Duration,
    levels: BucketLevels,
}

impl Exchange {
    async fn answer(mut self, prompt: &Prompt<'_>) -> Response {
        let sim = Arc::clone(&self.app.sim);
        let (options, wire, ids) = (&sim.options, self.wire, self.ids);
        let last_user = Conversation::of(prompt).last_user;
        let directives = find(last_user);
        let answer = if prompt.messages.is_empty() { Answer::text("") } else { generate(options.seed, prompt) };
        let counts = counts(prompt, &answer, &directives);
        self.entry.set_request(prompt, &counts);
        if let Some(refusal) = broken_rule(wire, prompt) {
            return self.refuse_broken_rule(&refusal);
        }
        let first = options.profile.first_token(draw(options.seed ^ TIME_SALT, self.ids.n)) + added_delay(&directives);
        let first_at = self.entry.began() + first;
        let fault = match self.requested_fault(last_user, &directives) {
            Some(Err(refusal)) => {
                wait_until(first_at).await;
                return self.refuse(&refusal);
            }
            Some(Ok(fault)) => Some(fault),
            None => match self.exceeded_limit(prompt, &counts) {
                Some(refusal) => return self.refuse(&refusal),
                None => drawn(&options.faults, options.seed, self.ids.n),
            },
        };
        let each = options.profile.per_token();
        let output = u32::try_from(counts.output).unwrap_or(u32::MAX);
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
        let counts = self.cached(prompt, counts);
        let (asked_at, has_usage) = (self.asked_at, !hides_usage(&directives));
        let reply = Reply { ids: &ids, prompt, answer: &answer, counts, has_usage, asked_at, first, total };
        let pieces = if prompt.stream {
            wire.stream(&reply)
        } else {
            wait_until(self.entry.began() + total).await;
            wire.whole(&reply)
                .map(|body| vec![Piece { bytes: body.into(), tokens: counts.output, reasoning: counts.reasoning }])
        };
        match pieces {
            Ok(pieces) => self.send(prompt.stream, pieces, Pace::Tokens(first_at, each), fault),
            Err(problem) => self.refuse(&Refusal::new(500, problem.to_string())),
        }
    }

    /// Counts what of the request the provider's cache has, unless a directive did.
    fn cached(&mut self, prompt: &Prompt<'_>, counts: TokenCounts) -> TokenCounts {
        if counts.cached + counts.written > 0 {
            return counts;
        }
        let key = prompt.cache_key.as_deref().unwrap_or_default();
        let account = self.account.text(&prompt.model).text(key);
        let used = self.app.sim.prefixes().take(prompt.caching, account, &prompt.chain, self.entry.began());
        let cached = used.read.min(counts.input);
        let written = used.written.min(counts.input - cached);
        let counts = TokenCounts { cached, written, written_1h: used.written_1h.min(written), ..counts };
        self.entry.set_request(prompt, &counts);
        counts
    }

    /// Sends an answer, or the part of it that a fault leaves.
    fn send(mut self, stream: bool, pieces: Vec<Piece>, pace: Pace, fault: Option<Fault>) -> Response {
        if let (false, Some(Fault::Break(status))) = (stream, fault) {
            return self.refuse(&failure(status, None));
        }
        let mut pace = pace;
        let (pieces, after) = match fault {
            Some(Fault::Truncate) => (half(pieces), Ending::Cut(RequestEnd::Truncated)),
            Some(Fault::Garble) if stream => {
                let mut pieces = first_half(pieces);
                pieces.push(Piece::frame(self.wire.garbage()));
                (pieces, Ending::Close(RequestEnd::Garbled))
            }
            Some(Fault::Garble) => (half(pieces), Ending::Close(RequestEnd::Garbled)),
            Some(Fault::Break(status)) => {
                let mut pieces = first_half(pieces);
                pieces.push(Piece::frame(self.wire.broken(&failure(status, None))));
                (pieces, Ending::Close(RequestEnd::Broken))
            }
            Some(Fault::Drip(interval)) => {
                let (Pace::Tokens(first, _) | Pace::Pieces(first, _)) = pace;
                pace = Pace::Pieces(first, interval);
                (drops(pieces), Ending::Close(RequestEnd::Completed))
            }
            Some(Fault::Endless) if stream => endless(pieces),
            Some(Fault::Endless) => (Vec::new(), Ending::Repeat(Piece::frame(Bytes::from_static(BLANKS)))),
            _ => (pieces, Ending::Close(RequestEnd::Completed)),
        };
        self.entry.head(StatusCode::OK.as_u16(), self.wire.id(&self.ids, true));
        let (kind, levels, now) =
            (if stream { self.wire.stream_type() } else { "application/json" }, self.levels, self.asked_at);
        let (wire, ids) = (self.wire, self.ids);
        let is_plain = !stream && matches!(fault, None | Some(Fault::Garble));
        let body = if is_plain {
            self.plain(pieces, fault)
        } else {
            PacedBody::body(self.entry, pieces, pace, after, self.app.shutdown)
        };
        let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
        if stream {
            response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
        }
        wire.stamp(response.headers_mut(), &ids, &levels, now);
        response
    }

    fn plain(mut self, pieces: Vec<Piece>, fault: Option<Fault>) -> Body {
        let piece = super::paced_body::joined(pieces);
        self.entry.sent(piece.tokens, piece.reasoning);
        self.entry.end(if fault.is_some() { RequestEnd::Garbled } else { RequestEnd::Completed });
        Body::from(piece.bytes)
    }

    fn refuse_broken_rule(mut self, refusal: &Refusal) -> Response {
        self.entry.set_refusal(&refusal.message);
        self.refuse(refusal)
    }

    fn refuse(mut self, refusal: &Refusal) -> Response {
        let mut response = self.wire.error(refusal, &self.ids);
        self.wire.stamp(response.headers_mut(), &self.ids, &self.levels, self.asked_at);
        self.entry.head(response.status().as_u16(), self.wire.id(&self.ids, false));
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        self.entry.set_retry_after(seconds);
        self.entry.end(RequestEnd::Failed);
        response
    }

    /// Returns the fault or the error that the message asks for.
    fn requested_fault(&self, text: &str, directives: &[DirectiveMatch<'_>]) -> Option<Result<Fault, Refusal>> {
        for found in directives {
            match found.directive {
                Directive::Fault(fault) => return Some(Ok(fault)),
                Directive::Drip(interval) => return Some(Ok(Fault::Drip(interval))),
                Directive::Fail { status, times, retry_after }
                    if times.is_none_or(|times| self.app.sim.must_fail(text, times)) =>
                {
                    return Some(Err(failure(status, retry_after)));
                }
                _ => {}
            }
        }
        None
    }

    /// Returns a refusal when the request exceeds a limit.
    fn exceeded_limit(&mut self, prompt: &Prompt<'_>, counts: &TokenCounts) -> Option<Refusal> {
        let sim = &self.app.sim;
        if sim.options.rate_limit.is_some_and(|limit| sim.exceeds_rate(self.asked_at.as_secs(), limit)) {
            return Some(failure(429, None));
        }
        let (levels, taken) = sim.limits().take(&prompt.model, counts.input, counts.output, self.entry.began());
        self.levels = levels;
        let LimitExceeded { of, limit, wait } = taken.err()?;
        let message = format!(
            "Rate limit reached for {} on {of} per min: Limit {limit}. Please try again in {:.3}s.",
            prompt.model,
            wait.as_secs_f64()
        );
        let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
        Some(Refusal { retry_after: Some(seconds), ..Refusal::new(429, message) })
    }

    /// Waits until the simulator shuts down, without an answer.
    async fn hang(mut self) -> Response {
        self.entry.end(RequestEnd::Hung);
        self.app.shutdown.cancelled().await;
        aborted_response()
    }

    fn html(mut self) -> Response {
        self.entry.head(StatusCode::OK.as_u16(), String::new());
        self.entry.end(RequestEnd::Html);
        ([(header::CONTENT_TYPE, "text/html")], HTML).into_response()
    }

    fn disconnect(mut self) -> Response {
        self.entry.end(RequestEnd::Disconnected);
        aborted_response()
    }
}

/// Returns the refusal of a request that the provider would not answer.
fn broken_rule(wire: &dyn Wire, prompt: &Prompt<'_>) -> Option<Refusal> {
    if prompt.model.starts_with(UNKNOWN) {
        return Some(wire.no_model(&prompt.model));
    }
    if is_retired(wire.name(), &prompt.model) {
        return Some(wire.retired(&prompt.model));
    }
    if prompt.model.contains(NO_TOOLS) && !prompt.tools.is_empty() {
        return Some(wire.no_tools(&prompt.model));
    }
    prompt.refusal.clone()
}

/// Sends everything up to the last piece of content, then repeats that piece.
fn endless(mut pieces: Vec<Piece>) -> (Vec<Piece>, Ending) {
    let last = pieces.iter().rposition(|piece| piece.tokens > piece.reasoning);
    pieces.truncate(last.map_or(pieces.len(), |last| last + 1));
    let repeated = pieces.last().cloned().unwrap_or_else(|| Piece::frame(Bytes::from_static(BLANKS)));
    (pieces, Ending::Repeat(repeated))
}

/// Returns at once when the instant has passed, so the instant profile never uses a timer.
async fn wait_until(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}
