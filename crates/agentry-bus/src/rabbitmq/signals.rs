//! Signals of other processes: received on one queue with as few bindings as possible.
//!
//! Every process receives signals that concern all. Progress and deltas, which are frequent, arrive only while this
//! process watches a task, and events of other processes only while it follows the tail. A watcher that starts before
//! the binding exists is notified that signals may be missing, and reads the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentry_core::id::TaskId;
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::message::Delivery;
use tokio::sync::Notify;

use super::fault::Fault;
use super::hint_buffer::HintBuffer;
use super::interest::{Interest, RENEW};
use super::options::Names;
use super::session::SignalsConsumer;
use super::topology::{self, PROCESS_HEADER, TO_WATCHERS};
use super::wire::signals::{Note, Process};
use super::{cloudevent, wire};
use crate::listeners::{Listeners, Watch, lock};
use crate::port::{ReceiveOutcome, Signal, Signals};

/// Time that a binding stays after the last watcher left: the next one usually comes soon.
const LINGER: Duration = Duration::from_secs(60);
/// Interval of maintenance: interest is renewed and expired, bindings are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Listeners of this process, and the tasks that other processes watch.
#[derive(Debug)]
pub(super) struct SignalHub {
    pub listeners: Listeners,
    process: Process,
    interest: Mutex<Interest>,
    tails: AtomicUsize,
    /// Notified when a watcher or a tail is added.
    watcher_added: Notify,
}

impl SignalHub {
    pub fn new(process: Process) -> Self {
        Self {
            listeners: Listeners::new(),
            process,
            interest: Mutex::default(),
            tails: AtomicUsize::new(0),
            watcher_added: Notify::new(),
        }
    }

    pub fn is_watched(&self, task: TaskId) -> bool {
        self.listeners.is_watched(task) || lock(&self.interest).contains(task, Instant::now())
    }

    /// Watches a task and notifies the other processes.
    pub fn watch(self: &Arc<Self>, hints: &Arc<HintBuffer>, task: TaskId) -> Box<dyn Signals> {
        let watch = self.listeners.watch(task);
        hints.note(Note::Watching(task));
        self.watcher_added.notify_one();
        let (hub, hints) = (Arc::clone(self), Arc::clone(hints));
        Box::new(RabbitWatch { watch: Some(watch), task, hub, hints })
    }

    /// Receives everything, including the events of other processes.
    pub fn tail(self: &Arc<Self>) -> Box<dyn Signals> {
        self.tails.fetch_add(1, Ordering::AcqRel);
        self.watcher_added.notify_one();
        Box::new(Tail { signals: self.listeners.signals(), hub: Arc::clone(self) })
    }

    /// Repeats the tasks that are watched here.
    fn renew(&self, hints: &HintBuffer) {
        for task in self.listeners.watched() {
            hints.note(Note::Watching(task));
        }
        lock(&self.interest).expire(Instant::now());
    }

    fn hear(&self, names: &Names, delivery: &Delivery) {
        if delivery.exchange == names.events() {
            return self.hear_event(delivery);
        }
        match wire::signals::decode(&delivery.data) {
            // Listeners here received it when it was sent.
            Ok((process, _)) if process == self.process => {}
            Ok((process, notes)) => notes.into_iter().for_each(|note| self.take(process, note)),
            Err(error) => {
                tracing::warn!(%error, "RabbitMQ: cannot decode signals, reading the store instead");
                self.listeners.missed();
            }
        }
    }

    fn take(&self, process: Process, note: Note) {
        match note {
            Note::Signal(signal) => self.listeners.send(signal),
            Note::Watching(task) => lock(&self.interest).add(process, task, Instant::now()),
            Note::Unwatched(task) => lock(&self.interest).remove(process, task),
            Note::Missed => self.listeners.missed(),
        }
    }

    fn hear_event(&self, delivery: &Delivery) {
        let headers = delivery.properties.headers().as_ref();
        let from = headers.and_then(|headers| headers.inner().get(PROCESS_HEADER));
        let own = from.and_then(|value| value.as_long_string());
        if own.is_some_and(|process| process.as_bytes() == self.process.to_string().as_bytes()) {
            return;
        }
        let content_type = delivery.properties.content_type().as_ref().map(|text| text.as_str());
        if let Ok(event) = cloudevent::decode(delivery.routing_key.as_str(), content_type, &delivery.data) {
            self.listeners.send(Signal::Event(Arc::new(event)));
        }
    }

    /// Receives until something fails.
    pub async fn run(&self, mut from: SignalsConsumer, names: &Names, hints: &HintBuffer) -> Result<(), Fault> {
        let mut watchers = Binding::new(names.signals().to_string(), TO_WATCHERS);
        let mut tails = Binding::new(names.events().to_string(), "#");
        let mut look = tokio::time::interval(CHECK_EVERY);
        let mut renew = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                delivery = from.consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.hear(names, &delivery),
                    Some(Err(error)) => return Err(Fault::new(format!("hub signals: {error}"))),
                    None => return Err(Fault::new("the broker ended the consumer of signals")),
                },
                _ = renew.tick() => self.renew(hints),
                () = self.watcher_added.notified() => self.bind(&from, &mut watchers, &mut tails).await?,
                _ = look.tick() => self.bind(&from, &mut watchers, &mut tails).await?,
            }
        }
    }

    async fn bind(&self, from: &SignalsConsumer, watchers: &mut Binding, tails: &mut Binding) -> Result<(), Fault> {
        if watchers.follow(from, self.listeners.watched_count() > 0).await? {
            self.listeners.missed_by_watchers();
        }
        tails.follow(from, self.tails.load(Ordering::Acquire) > 0).await.map(drop)
    }
}

/// A binding that exists while it is needed and for [`LINGER`] after.
struct Binding {
    exchange: String,
    key: &'static str,
    bound: bool,
    needed: Instant,
}

impl Binding {
    fn new(exchange: String, key: &'static str) -> Self {
        Self { exchange, key, bound: false, needed: Instant::now() }
    }

    /// Binds or unbinds; returns true for a new binding.
    async fn follow(&mut self, from: &SignalsConsumer, needed: bool) -> Result<bool, Fault> {
        if needed {
            self.needed = Instant::now();
        }
        let (exchange, key) = (self.exchange.as_str().into(), self.key.into());
        if needed && !self.bound {
            topology::bind(&from.channel, from.queue.clone(), exchange, key).await?;
            self.bound = true;
            return Ok(true);
        }
        if self.bound && self.needed.elapsed() > LINGER {
            topology::unbind(&from.channel, from.queue.clone(), exchange, key).await?;
            self.bound = false;
        }
        Ok(false)
    }
}

struct RabbitWatch {
    watch: Option<Watch>,
    task: TaskId,
    hub: Arc<SignalHub>,
    hints: Arc<HintBuffer>,
}

#[async_trait]
impl Signals for RabbitWatch {
    async fn next(&mut self) -> ReceiveOutcome {
        match &mut self.watch {
            Some(watch) => watch.next().await,
            None => ReceiveOutcome::Closed,
        }
    }
}

impl Drop for RabbitWatch {
    fn drop(&mut self) {
        self.watch = None;
        if !self.hub.listeners.is_watched(self.task) {
            self.hints.note(Note::Unwatched(self.task));
        }
    }
}

struct Tail {
    signals: Box<dyn Signals>,
    hub: Arc<SignalHub>,
}

#[async_trait]
impl Signals for Tail {
    async fn next(&mut self) -> ReceiveOutcome {
        self.signals.next().await
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.hub.tails.fetch_sub(1, Ordering::AcqRel);
    }
}
