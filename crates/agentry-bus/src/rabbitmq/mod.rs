//! The bus of many processes: RabbitMQ 3.10 to 3.13, AMQP 0-9-1.
//!
//! Wakes go through a fixed number of queues per mode, signals through one queue per process, both as transient
//! batches: they are hints. Events go to a durable topic exchange, persistent and confirmed; the store's outbox makes
//! them durable. One supervisor owns both connections and restores everything after an outage.

mod batches;
mod broker_connection;
mod cloudevent;
mod confirms;
mod fault;
mod flush_pace;
mod hint_buffer;
mod inbound;
mod incoming_wakes;
mod interest;
mod options;
mod publish;
mod session;
mod settle;
mod signals;
mod supervisor;
mod topology;
mod unroutable;
mod wire;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentry_core::agent::ModeSet;
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::listeners::lock;
use crate::port::{BusError, EventBus, Inbound, Signal, Signals, Wake, Wakes};
use broker_connection::BrokerConnection;
use fault::Fault;
use hint_buffer::HintBuffer;
use inbound::Arrivals;
use incoming_wakes::IncomingWakes;
use options::Names;
pub use options::RabbitOptions;
use publish::Publisher;
use session::Session;
use signals::SignalHub;
use supervisor::SessionHistory;
use wire::signals::{Note, Process};

/// Time that hints have to leave before a clean close.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
const FLUSH_POLL: Duration = Duration::from_millis(5);
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The bus of many processes. Clones share the connections, which end with the last of them.
#[derive(Clone)]
pub struct RabbitBus {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Stops the supervisor when the last handle is dropped.
struct Owner {
    _stop: DropGuard,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: RabbitOptions,
    names: Names,
    process: Process,
    session: watch::Sender<Option<Arc<Session>>>,
    hints: Arc<HintBuffer>,
    incoming: Arc<IncomingWakes>,
    hub: Arc<SignalHub>,
    arrivals: Arc<Arrivals>,
    publisher: Publisher,
    history: SessionHistory,
    stop: CancellationToken,
}

impl std::fmt::Debug for RabbitBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitBus").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// Status of the bus, for health checks and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitStatus {
    /// Both connections are open.
    pub connected: bool,
    /// The broker accepts nothing because it is short of memory or disk.
    pub blocked: bool,
    /// Events without a confirm.
    pub unconfirmed: usize,
    /// Number of reconnects.
    pub reconnects: u64,
    /// Events returned as unroutable.
    pub returned: u64,
    /// Foreign events that were rejected.
    pub rejected: u64,
    /// Wakes that were dropped because the buffer was full.
    pub dropped_wakes: u64,
    /// Reason for which the last connection ended or could not be opened.
    pub last_fault: Option<String>,
}

impl RabbitBus {
    /// Deletes the exchanges and queues of a deployment with their messages. Its processes must have ended.
    ///
    /// # Errors
    /// Something could not be deleted.
    pub async fn remove_all(options: &RabbitOptions) -> Result<(), BusError> {
        let address = options.address();
        let removing = async {
            let connection = BrokerConnection::open(options.uri()?, "agentry cleaning up".to_owned()).await?;
            topology::delete(&connection.channel().await?, &options.names()?).await?;
            connection.close().await;
            Ok(())
        };
        removing.await.map_err(|fault: Fault| BusError::Unavailable(format!("RabbitMQ at {address}: {fault}")))
    }

    /// Connects, and declares exchanges and queues. From then on the bus recovers from outages by itself.
    ///
    /// # Errors
    /// The options are invalid, or the broker cannot be reached within a few seconds.
    pub async fn connect(options: RabbitOptions) -> Result<Self, BusError> {
        let address = options.address();
        let unreachable = |fault: Fault| BusError::Unavailable(format!("RabbitMQ at {address}: {fault}"));
        let names = options.names().map_err(unreachable)?;
        let process = Process::random();
        let first = Session::open(&options, process, 1).await.map_err(unreachable)?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            publisher: Publisher::new(names.clone(), process),
            options,
            names,
            process,
            session: watch::Sender::new(None),
            hints: Arc::new(HintBuffer::default()),
            incoming: Arc::new(IncomingWakes::new(stop.clone())),
            hub: Arc::new(SignalHub::new(process)),
            arrivals: Arc::new(Arrivals::new(stop.clone())),
            history: SessionHistory::default(),
            stop: stop.clone(),
        });
        let supervisor = tokio::spawn(supervisor::supervise(Arc::clone(&shared), first));
        // The supervisor sets the session first, so that a new bus never looks disconnected.
        let _ = shared.session.subscribe().wait_for(Option::is_some).await;
        let owner = Owner { _stop: stop.drop_guard(), supervisor: Mutex::new(Some(supervisor)) };
        Ok(Self { shared, owner: Arc::new(owner) })
    }

    /// Returns the status of the bus.
    #[must_use]
    pub fn status(&self) -> RabbitStatus {
        let shared = &self.shared;
        let session = shared.session.borrow().clone();
        RabbitStatus {
            connected: session.as_ref().is_some_and(|session| !session.has_failed()),
            blocked: session.as_ref().is_some_and(|session| session.is_blocked()),
            unconfirmed: shared.publisher.unconfirmed.load(Ordering::Relaxed),
            reconnects: shared.history.sessions.load(Ordering::Relaxed).saturating_sub(1),
            returned: shared.publisher.returned.load(Ordering::Relaxed),
            rejected: shared.arrivals.rejected.load(Ordering::Relaxed),
            dropped_wakes: shared.hints.dropped(),
            last_fault: lock(&shared.history.last_fault).clone(),
        }
    }

    /// Closes the bus: hints are flushed, untaken wakes and events return to the broker, the connections close.
    /// Receivers get [`ReceiveOutcome::Closed`](crate::ReceiveOutcome::Closed). Returns within a few seconds.
    pub async fn close(&self) {
        let flushed = async {
            while self.shared.session.borrow().is_some() && !self.shared.hints.is_empty() {
                tokio::time::sleep(FLUSH_POLL).await;
            }
        };
        if tokio::time::timeout(FLUSH_PATIENCE, flushed).await.is_err() {
            tracing::debug!("RabbitMQ shutdown: some hints were not flushed; recovery finds their tasks");
        }
        self.shared.stop.cancel();
        self.shared.hub.listeners.close();
        let supervisor = lock(&self.owner.supervisor).take();
        if let Some(supervisor) = supervisor
            && tokio::time::timeout(CLOSE_PATIENCE, supervisor).await.is_err()
        {
            tracing::warn!("RabbitMQ shutdown: the connections did not close in time");
        }
    }
}

#[async_trait]
impl EventBus for RabbitBus {
    fn wake(&self, wakes: Vec<Wake>) {
        if !wakes.is_empty() && !self.shared.hints.wake(wakes) {
            self.shared.incoming.record_loss();
        }
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.shared.incoming.join(modes)
    }

    /// Listeners of this process receive it at once. Events do not reach other processes in this way: [`Self::publish`]
    /// sends them, and [`Self::tail`] receives them.
    fn signal(&self, signal: Signal) {
        if !matches!(signal, Signal::Event(_)) {
            self.shared.hints.note(Note::Signal(signal.clone()));
        }
        self.shared.hub.listeners.send(signal);
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.shared.hub.listeners.signals()
    }

    fn tail(&self) -> Box<dyn Signals> {
        self.shared.hub.tail()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.shared.hub.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        self.shared.hub.watch(&self.shared.hints, task)
    }

    /// Returns when the broker has confirmed the event; waits some seconds while it is unreachable or blocked.
    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        if self.shared.hub.listeners.has_signal_listeners() {
            self.shared.hub.listeners.send(Signal::Event(Arc::new(event.clone())));
        }
        self.shared.publisher.publish(&self.shared.session, event).await
    }

    /// Returns false for a little less than a second after an event on the topic was returned as unroutable. So one
    /// event per second is published as a probe, and a new queue receives everything from at most one second on.
    fn is_heard_outside(&self, topic: &str) -> bool {
        self.shared.publisher.unroutable.may_be_routed(topic, Instant::now())
    }

    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        Some(self.shared.arrivals.join())
    }

    /// Counts wakes in this process: for the broker, or for a consumer. The broker counts those in its queues.
    fn depth(&self) -> usize {
        self.shared.hints.depth() + self.shared.incoming.depth()
    }
}
