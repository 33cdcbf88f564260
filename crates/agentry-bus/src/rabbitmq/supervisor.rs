//! Keeps the bus connected: one task that owns the sessions, one after another.
//!
//! The client library's own recovery is off: measured, it turned an outage of 3 s into a gap of 17 s and left confirms
//! hanging on a silent link. Here any fault ends both connections, and the next pair is opened with short waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentry_core::agent::ModeSet;
use tokio::task::JoinSet;

use super::Shared;
use super::fault::Fault;
use super::session::{Session, SignalsConsumer};
use crate::listeners::lock;

/// The wait before the first reconnect; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait before a reconnect: a broker that is back is found well within a second, at a cost of some refused
/// connections a second from each process while it is away.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// A session that lived this long was a good one: the next waits are short again.
const GOOD_LIFE: Duration = Duration::from_secs(5);
/// How often abandoned publications are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// How often the bus was connected, and what ended it last.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub sessions: AtomicU64,
    pub last_fault: std::sync::Mutex<Option<String>>,
}

/// Runs sessions until the bus is closed. Begins with one that is open.
pub(super) async fn supervise(shared: Arc<Shared>, first: (Session, SignalsConsumer)) {
    let mut opened = Some(first);
    let mut wait = FIRST_WAIT;
    loop {
        if let Some((session, signals)) = opened.take() {
            let began = tokio::time::Instant::now();
            let Some(fault) = run(&shared, session, signals).await else { return };
            tracing::warn!(%fault, broker = shared.options.place(), "lost RabbitMQ; connecting again");
            *lock(&shared.life.last_fault) = Some(fault.to_string());
            if began.elapsed() >= GOOD_LIFE {
                wait = FIRST_WAIT;
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(wait)) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        let number = shared.life.sessions.load(Ordering::Relaxed) + 1;
        let opening = Session::open(&shared.options, shared.process, number);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            result = opening => match result {
                Ok(session) => {
                    tracing::info!(broker = shared.options.place(), "RabbitMQ is back");
                    shared.hearing.listeners.missed();
                    shared.incoming.lose();
                    opened = Some(session);
                }
                Err(fault) => {
                    tracing::debug!(%fault, "no connection to RabbitMQ yet");
                    *lock(&shared.life.last_fault) = Some(fault.to_string());
                }
            },
        }
    }
}

/// Between half and all of `wait`, so that processes do not come back in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// One session, to its end: the fault that ended it, or `None` when the bus was closed.
async fn run(shared: &Arc<Shared>, session: Session, signals: SignalsConsumer) -> Option<Fault> {
    let session = Arc::new(session);
    shared.life.sessions.fetch_add(1, Ordering::Relaxed);
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
    // The broker delivers again what was not acknowledged.
    shared.incoming.give_back(ModeSet::ALL);
    shared.arrivals.give_back();
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
    parts.spawn(async move { bus.outgoing.pump_wakes(&on, &bus.names).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.outgoing.pump_notes(&on, &bus.names, bus.process).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.incoming.consume(&on, &bus.names).await });
    let (bus, on) = of();
    parts.spawn(async move { bus.arrivals.consume(&on, &bus.names).await });
    let bus = Arc::clone(shared);
    parts.spawn(async move { bus.hearing.run(signals, &bus.names, &bus.outgoing).await });
    let (bus, on) = of();
    parts.spawn(async move {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            bus.publisher.tidy(&on).await;
        }
    });
    parts
}
