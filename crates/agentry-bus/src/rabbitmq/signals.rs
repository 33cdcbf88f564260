//! Signals of other processes: heard on one queue, bound to as little as the process needs.
//!
//! Every process hears what concerns all. Progress and deltas, of which there are many, come only while somebody here
//! watches a task, and events of other processes only while somebody follows the tail. Whoever begins to watch before
//! the binding is there is told that something may have been missed, and reads the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::message::Delivery;
use tokio::sync::Notify;

use super::fault::Fault;
use super::interest::{Interest, RENEW};
use super::options::Names;
use super::outgoing::Outgoing;
use super::session::SignalsConsumer;
use super::topology::{self, PROCESS_HEADER, TO_WATCHERS};
use super::wire::signals::{Note, Process};
use super::{cloudevent, wire};
use crate::listeners::{Listeners, Watch, lock};
use crate::port::{Received, Signal, Signals};

/// How long bindings stay after the last watcher left: the next one usually comes soon.
const LINGER: Duration = Duration::from_secs(60);
/// How often interest is renewed, forgotten and looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Listeners here, and what is known about those elsewhere.
#[derive(Debug)]
pub(super) struct Hearing {
    pub listeners: Listeners,
    process: Process,
    interest: Mutex<Interest>,
    tails: AtomicUsize,
    /// Rung when a watcher or tail came.
    came: Notify,
}

impl Hearing {
    pub fn new(process: Process) -> Self {
        Self {
            listeners: Listeners::new(),
            process,
            interest: Mutex::default(),
            tails: AtomicUsize::new(0),
            came: Notify::new(),
        }
    }

    /// Whether somebody watches the task, here or elsewhere.
    pub fn is_watched(&self, task: TaskId) -> bool {
        self.listeners.is_watched(task) || lock(&self.interest).contains(task, Instant::now())
    }

    /// Watches a task, and tells the others.
    pub fn watch(self: &Arc<Self>, outgoing: &Arc<Outgoing>, task: TaskId) -> Box<dyn Signals> {
        let watch = self.listeners.watch(task);
        outgoing.note(Note::Watching(task));
        self.came.notify_one();
        let (hearing, outgoing) = (Arc::clone(self), Arc::clone(outgoing));
        Box::new(RabbitWatch { watch: Some(watch), task, hearing, outgoing })
    }

    /// Hears everything, the events of other processes too.
    pub fn tail(self: &Arc<Self>) -> Box<dyn Signals> {
        self.tails.fetch_add(1, Ordering::AcqRel);
        self.came.notify_one();
        Box::new(Tail { signals: self.listeners.signals(), hearing: Arc::clone(self) })
    }

    /// Says again which tasks are watched here.
    fn renew(&self, outgoing: &Outgoing) {
        for task in self.listeners.watched() {
            outgoing.note(Note::Watching(task));
        }
        lock(&self.interest).forget_old(Instant::now());
    }

    fn hear(&self, names: &Names, delivery: &Delivery) {
        if delivery.exchange == names.events() {
            return self.hear_event(delivery);
        }
        match wire::signals::decode(&delivery.data) {
            // Told here when it was said.
            Ok((process, _)) if process == self.process => {}
            Ok((process, notes)) => notes.into_iter().for_each(|note| self.take(process, note)),
            Err(error) => {
                tracing::warn!(%error, "signals cannot be read; the store is read instead");
                self.listeners.missed();
            }
        }
    }

    fn take(&self, process: Process, note: Note) {
        match note {
            Note::Signal(signal) => self.listeners.tell(signal),
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
        let event: Result<Event, String> =
            cloudevent::decode(delivery.routing_key.as_str(), content_type, &delivery.data);
        if let Ok(event) = event {
            self.listeners.tell(Signal::Event(Arc::new(event)));
        }
    }

    /// Hears until something fails.
    pub async fn run(&self, mut from: SignalsConsumer, names: &Names, outgoing: &Outgoing) -> Result<(), Fault> {
        let mut watchers = Binding::new(names.signals().to_string(), TO_WATCHERS);
        let mut tails = Binding::new(names.events().to_string(), "#");
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut renew = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                delivery = from.consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.hear(names, &delivery),
                    Some(Err(error)) => return Err(Fault::new(format!("hearing signals: {error}"))),
                    None => return Err(Fault::new("the broker ended the consumer of signals")),
                },
                _ = renew.tick() => self.renew(outgoing),
                () = self.came.notified() => self.bind(&from, &mut watchers, &mut tails).await?,
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

/// A binding that is there while it is needed, and a while longer.
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

    /// Binds or unbinds. Whether the binding is new.
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
    hearing: Arc<Hearing>,
    outgoing: Arc<Outgoing>,
}

#[async_trait]
impl Signals for RabbitWatch {
    async fn next(&mut self) -> Received {
        match &mut self.watch {
            Some(watch) => watch.next().await,
            None => Received::Closed,
        }
    }
}

impl Drop for RabbitWatch {
    fn drop(&mut self) {
        self.watch = None;
        if !self.hearing.listeners.is_watched(self.task) {
            self.outgoing.note(Note::Unwatched(self.task));
        }
    }
}

struct Tail {
    signals: Box<dyn Signals>,
    hearing: Arc<Hearing>,
}

#[async_trait]
impl Signals for Tail {
    async fn next(&mut self) -> Received {
        self.signals.next().await
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.hearing.tails.fetch_sub(1, Ordering::AcqRel);
    }
}
