//! One life of both connections: opened together, given up together.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;

use super::confirms::Confirms;
use super::fault::{Fault, within};
use super::link::Link;
use super::options::{Names, RabbitOptions};
use super::topology;
use super::wire::signals::Process;
use crate::listeners::lock;

/// How often the connections are looked at, besides hearing their events.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A connection to publish on and one to consume on: the broker blocks publishers, and must not block consumers with
/// them.
pub(super) struct Session {
    publishing: Link,
    consuming: Link,
    /// The channel of events.
    events: Confirms,
    broken: CancellationToken,
    why: Mutex<Option<Fault>>,
}

/// The consumer of this process's signals, ready before the session is.
pub(super) struct SignalsConsumer {
    pub channel: Channel,
    pub queue: ShortString,
    pub consumer: Consumer,
}

impl Session {
    /// Connects and declares what every process needs.
    pub async fn open(
        options: &RabbitOptions,
        process: Process,
        number: u64,
    ) -> Result<(Self, SignalsConsumer), Fault> {
        let (uri, names) = (options.uri()?, options.names()?);
        let name = |what: &str| format!("agentry {what} {process}");
        let (publishing, consuming) =
            tokio::try_join!(Link::open(uri.clone(), name("publishes")), Link::open(uri.clone(), name("consumes")))?;
        let events = Confirms::open(&publishing).await?;
        topology::declare(events.channel(), &names).await?;
        let signals = consume_signals(&consuming, &names, process, number).await?;
        let session = Self { publishing, consuming, events, broken: CancellationToken::new(), why: Mutex::new(None) };
        Ok((session, signals))
    }

    pub fn publishing(&self) -> &Link {
        &self.publishing
    }

    pub fn consuming(&self) -> &Link {
        &self.consuming
    }

    pub fn events(&self) -> &Confirms {
        &self.events
    }

    /// Whether the broker takes nothing from us for now.
    pub fn is_blocked(&self) -> bool {
        self.publishing.is_blocked()
    }

    /// Gives the session up: the supervisor opens another one.
    pub fn fail(&self, fault: Fault) {
        lock(&self.why).get_or_insert(fault);
        self.broken.cancel();
    }

    /// Whether it was given up.
    pub fn has_failed(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Cuts both connections.
    pub fn cut(&self) {
        self.broken.cancel();
        self.publishing.cut();
        self.consuming.cut();
    }

    /// Ends both connections after what was sent before.
    pub async fn close(&self) {
        self.broken.cancel();
        tokio::join!(self.publishing.close(), self.consuming.close());
    }

    /// Waits until a connection ends or somebody gives the session up.
    pub async fn end(&self) -> Fault {
        tokio::select! {
            fault = end_of(&self.publishing) => fault,
            fault = end_of(&self.consuming) => fault,
            () = self.broken.cancelled() => {
                lock(&self.why).clone().unwrap_or_else(|| Fault::new("the session was given up"))
            }
        }
    }
}

fn end_of(link: &Link) -> impl Future<Output = Fault> {
    let mut heard = Box::pin(link.connection().events_listener());
    async move {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                event = heard.next() => match event {
                    Some(lapin::Event::Error(error)) => return Fault::new(error.to_string()),
                    Some(lapin::Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "RabbitMQ takes no messages for now");
                    }
                    Some(lapin::Event::ConnectionUnblocked) => tracing::info!("RabbitMQ takes messages again"),
                    Some(_) => {}
                    None => return Fault::new("the connection ended"),
                },
                _ = look.tick() => if !link.is_connected() { return Fault::new("the connection was closed") },
            }
        }
    }
}

async fn consume_signals(link: &Link, names: &Names, process: Process, number: u64) -> Result<SignalsConsumer, Fault> {
    let channel = link.channel().await?;
    let queue = names.signals_of(&process.to_string(), number);
    topology::declare_signals(&channel, names, queue.clone()).await?;
    // Hints are not acknowledged: what is lost with the connection is found in the store.
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
    let consumer = within("consuming signals", consuming).await?;
    Ok(SignalsConsumer { channel, queue, consumer })
}
