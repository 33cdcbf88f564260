//! The supervisor: one task that owns the sessions and reconnects.
//!
//! The client library's own recovery is off: it turned an outage of 3 s into a gap of 17 s and left confirms hanging on
//! a silent connection. Here any fault ends both connections, and the next pair is opened after a short delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentry_core::agent::ModeSet;
use tokio::task::JoinSet;

use super::Shared;
use super::fault::Fault;
use super::session::{Session, SignalsConsumer};
use crate::listeners::lock;

const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest delay before a reconnect: a broker that is back is found well within a second, at the cost of a few refused
/// connections per second and process while it is down.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Session lifetime after which delays start at [`FIRST_WAIT`] again.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Interval at which abandoned publications are collected.
const COLLECT_EVERY: Duration = Duration::from_secs(10);

/// Number of sessions, and the fault that ended the last one.
#[derive(Debug, Default)]
pub(super) struct SessionHistory {
    pub sessions: AtomicU64,
    pub last_fault: std::sync::Mutex<Option<String>>,
}

/// Runs sessions until the bus is closed, starting with an open one. The delays are computed by hand: an exponential
/// builder of a crate does not start anew after a good session, and its retry loop cannot own the open session.
pub(super) async fn supervise(shared: Arc<Shared>, first: (Session, SignalsConsumer)) {
    let mut opened = Some(first);
    let mut wait = FIRST_WAIT;
    loop {
        if let Some((session, signals)) = opened.take() {
            let began = tokio::time::Instant::now();
            let Some(fault) = run(&shared, session, signals).await else { return };
            tracing::warn!(%fault, broker = shared.options.address(), "RabbitMQ connection lost, reconnecting");
            *lock(&shared.history.last_fault) = Some(fault.to_string());
            if began.elapsed() >= STABLE_AFTER {
                wait = FIRST_WAIT;
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(wait)) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        let number = shared.history.sessions.load(Ordering::Relaxed) + 1;
        let opening = Session::open(&shared.options, shared.process, number);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            result = opening => match result {
                Ok(session) => {
                    tracing::info!(broker = shared.options.address(), "RabbitMQ reconnected");
                    shared.hub.listeners.missed();
                    shared.incoming.record_loss();
                    opened = Some(session);
                }
                Err(fault) => {
                    tracing::debug!(%fault, "RabbitMQ reconnect failed, trying again");
                    *lock(&shared.history.last_fault) = Some(fault.to_string());
                }
            },
        }
    }
}

/// Returns between half and all of `wait`, so that processes do not reconnect in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// Runs one session to its end; returns its fault, or `None` when the bus was closed.
async fn run(shared: &Arc<Shared>, session: Session, signals: SignalsConsumer) -> Option<Fault> {
    let session = Arc::new(session);
    shared.history.sessions.fetch_add(1, Ordering::Relaxed);
    shared.session.send_replace(Some(Arc::clone(&session)));
    let mut parts = spawn(shared, &session, signals);
    let fault = tokio::select! {
        () = shared.stop.cancelled() => None,
        fault = session.end() => Some(fault),
        ended = parts.join_next() => Some(match ended {
            Some(Ok(Err(fault))) => fault,
            Some(Err(error)) => Fault::new(format!("a part of the bus ended: {error}")),
            Some(Ok(Ok(()))) | None => Fault::new("a part of the bus ended"),
        }),
    };
    shared.session.send_replace(None);
    parts.shutdown().await;
    // The broker delivers unacknowledged messages again.
    shared.incoming.release(ModeSet::ALL);
    shared.arrivals.release();
    match fault {
        Some(_) => session.cut(),
        None => session.close().await,
    }
    fault
}

fn spawn(shared: &Arc<Shared>, session: &Arc<Session>, signals: SignalsConsumer) -> JoinSet<Result<(), Fault>> {
    let mut parts = JoinSet::new();
    let of = || (Arc::clone(shared), Arc::clone(session));
    let (bus, on) = of();
    parts.spawn(async move { bus.hints.pump_wakes(&on, &bus.names).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.hints.pump_notes(&on, &bus.names, bus.process).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.incoming.consume(&on, &bus.names).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.arrivals.consume(&on, &bus.names).await });
    let bus = Arc::clone(shared);
    parts.spawn(async move { bus.hub.run(signals, &bus.names, &bus.hints).await });
    let (bus, on) = of();
    parts.spawn(async move {
        loop {
            tokio::time::sleep(COLLECT_EVERY).await;
            bus.publisher.collect_abandoned(&on).await;
        }
    });
    parts
}
