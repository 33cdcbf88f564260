//! The bus of many processes: RabbitMQ 3.10 to 3.13, AMQP 0-9-1.
//!
//! Wakes go through a fixed number of queues for each mode, signals through one queue for each process, both as
//! transient batches: they are hints. Events go to a durable topic exchange, persistent and confirmed; their durability
//! is the store's outbox. One supervisor owns both connections and brings everything back after any outage.

mod batches;
mod cloudevent;
mod confirms;
mod fault;
mod inbound;
mod incoming;
mod interest;
mod link;
mod options;
mod outgoing;
mod pace;
mod publish;
mod session;
mod settle;
mod signals;
mod supervisor;
mod topology;
mod unheard;
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
use fault::Fault;
use inbound::Arrivals;
use incoming::Incoming;
use link::Link;
use options::Names;
pub use options::RabbitOptions;
use outgoing::Outgoing;
use publish::Publisher;
use session::Session;
use signals::Hearing;
use supervisor::Life;
use wire::signals::{Note, Process};

/// How long a clean end waits for hints to leave.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks whether they have.
const FLUSH_POLL: Duration = Duration::from_millis(5);
/// How long a clean end may take besides.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The bus of many processes. Clones share the connections, which end with the last of them.
#[derive(Clone)]
pub struct RabbitBus {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Ends the supervisor when the last handle is gone.
struct Owner {
    _stop: DropGuard,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: RabbitOptions,
    names: Names,
    process: Process,
    session: watch::Sender<Option<Arc<Session>>>,
    outgoing: Arc<Outgoing>,
    incoming: Arc<Incoming>,
    hearing: Arc<Hearing>,
    arrivals: Arc<Arrivals>,
    publisher: Publisher,
    life: Life,
    stop: CancellationToken,
}

impl std::fmt::Debug for RabbitBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitBus").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// How the bus is doing, for health checks and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitStatus {
    /// Whether both connections are up.
    pub connected: bool,
    /// Whether the broker takes nothing for now, because it is short of memory or disk.
    pub blocked: bool,
    /// Events that wait for their confirm.
    pub unconfirmed: usize,
    /// How often it was connected again.
    pub reconnects: u64,
    /// Events that nobody was bound to.
    pub returned: u64,
    /// Foreign events that could not be taken.
    pub rejected: u64,
    /// Wakes that were dropped because too many waited for the broker.
    pub dropped_wakes: u64,
    /// What ended the last connection, or kept the next one from being opened.
    pub last_fault: Option<String>,
}

impl RabbitBus {
    /// Deletes the exchanges and queues of a deployment, with what waits in them. Its processes must have ended.
    ///
    /// # Errors
    /// What could not be deleted.
    pub async fn remove_all(options: &RabbitOptions) -> Result<(), BusError> {
        let place = options.place();
        let removing = async {
            let link = Link::open(options.uri()?, "agentry cleaning up".to_owned()).await?;
            topology::delete(&link.channel().await?, &options.names()?).await?;
            link.close().await;
            Ok(())
        };
        removing.await.map_err(|fault: Fault| BusError::Unavailable(format!("RabbitMQ at {place}: {fault}")))
    }

    /// Connects, and declares exchanges and queues. From then on the bus survives any outage by itself.
    ///
    /// # Errors
    /// When the options are wrong or the broker cannot be reached within a few seconds.
    pub async fn connect(options: RabbitOptions) -> Result<Self, BusError> {
        let place = options.place();
        let unreachable = |fault: Fault| BusError::Unavailable(format!("RabbitMQ at {place}: {fault}"));
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
            outgoing: Arc::new(Outgoing::default()),
            incoming: Arc::new(Incoming::new(stop.clone())),
            hearing: Arc::new(Hearing::new(process)),
            arrivals: Arc::new(Arrivals::new(stop.clone())),
            life: Life::default(),
            stop: stop.clone(),
        });
        let supervisor = tokio::spawn(supervisor::supervise(Arc::clone(&shared), first));
        // The supervisor's first act, so that a new bus never looks disconnected.
        let _ = shared.session.subscribe().wait_for(Option::is_some).await;
        let owner = Owner { _stop: stop.drop_guard(), supervisor: Mutex::new(Some(supervisor)) };
        Ok(Self { shared, owner: Arc::new(owner) })
    }

    /// How the bus is doing.
    #[must_use]
    pub fn status(&self) -> RabbitStatus {
        let shared = &self.shared;
        let session = shared.session.borrow().clone();
        RabbitStatus {
            connected: session.as_ref().is_some_and(|session| !session.has_failed()),
            blocked: session.as_ref().is_some_and(|session| session.is_blocked()),
            unconfirmed: shared.publisher.unconfirmed.load(Ordering::Relaxed),
            reconnects: shared.life.sessions.load(Ordering::Relaxed).saturating_sub(1),
            returned: shared.publisher.returned.load(Ordering::Relaxed),
            rejected: shared.arrivals.rejected.load(Ordering::Relaxed),
            dropped_wakes: shared.outgoing.dropped(),
            last_fault: lock(&shared.life.last_fault).clone(),
        }
    }

    /// Ends the bus: hints leave, wakes and events that nobody took go back to the broker, the connections end.
    /// Receivers get the news. Returns within a few seconds.
    pub async fn close(&self) {
        let flushed = async {
            while self.shared.session.borrow().is_some() && !self.shared.outgoing.is_empty() {
                tokio::time::sleep(FLUSH_POLL).await;
            }
        };
        if tokio::time::timeout(FLUSH_PATIENCE, flushed).await.is_err() {
            tracing::debug!("some hints did not reach RabbitMQ before the end; recovery finds what they tell");
        }
        self.shared.stop.cancel();
        self.shared.hearing.listeners.close();
        let supervisor = lock(&self.owner.supervisor).take();
        if let Some(supervisor) = supervisor
            && tokio::time::timeout(CLOSE_PATIENCE, supervisor).await.is_err()
        {
            tracing::warn!("the connections to RabbitMQ did not end in time");
        }
    }
}

#[async_trait]
impl EventBus for RabbitBus {
    fn wake(&self, wakes: Vec<Wake>) {
        if !wakes.is_empty() && !self.shared.outgoing.wake(wakes) {
            self.shared.incoming.lose();
        }
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.shared.incoming.join(modes)
    }

    /// Listeners of this process hear it at once. Events are not told to other processes like this: [`Self::publish`]
    /// does, and [`Self::tail`] brings them.
    fn signal(&self, signal: Signal) {
        if !matches!(signal, Signal::Event(_)) {
            self.shared.outgoing.note(Note::Signal(signal.clone()));
        }
        self.shared.hearing.listeners.tell(signal);
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.shared.hearing.listeners.signals()
    }

    fn tail(&self) -> Box<dyn Signals> {
        self.shared.hearing.tail()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.shared.hearing.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        self.shared.hearing.watch(&self.shared.outgoing, task)
    }

    /// Returns when the broker has the event; waits some seconds for a broker that is away or takes nothing.
    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        if self.shared.hearing.listeners.anybody() {
            self.shared.hearing.listeners.tell(Signal::Event(Arc::new(event.clone())));
        }
        self.shared.publisher.publish(&self.shared.session, event).await
    }

    /// An event on the topic that came back with no queue to go to says no, for somewhat less than a second. So of many
    /// unheard events one a second goes out, and a queue that is bound now gets everything from at most one second on.
    fn is_heard_outside(&self, topic: &str) -> bool {
        self.shared.publisher.unheard.is_heard(topic, Instant::now())
    }

    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        Some(self.shared.arrivals.join())
    }

    /// Wakes that wait in this process: for the broker, or for a consumer. Those in the broker's queues are seen there.
    fn depth(&self) -> usize {
        self.shared.outgoing.depth() + self.shared.incoming.depth()
    }
}
