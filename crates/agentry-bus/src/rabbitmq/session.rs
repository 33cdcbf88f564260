//! A pair of connections that are opened and given up together.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;

use super::broker_connection::BrokerConnection;
use super::confirms::Confirms;
use super::fault::{Fault, within};
use super::options::{Names, RabbitOptions};
use super::topology;
use super::wire::signals::Process;
use crate::listeners::lock;

/// Interval at which the connections are checked, besides their events.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// One connection for publishing and one for consuming: the broker blocks publishers, and must not block consumers with
/// them.
pub(super) struct Session {
    publishing: BrokerConnection,
    consuming: BrokerConnection,
    events: Confirms,
    broken: CancellationToken,
    why: Mutex<Option<Fault>>,
}

/// The consumer of this process's signals, which starts before the session.
pub(super) struct SignalsConsumer {
    pub channel: Channel,
    pub queue: ShortString,
    pub consumer: Consumer,
}

impl Session {
    pub async fn open(
        options: &RabbitOptions,
        process: Process,
        number: u64,
    ) -> Result<(Self, SignalsConsumer), Fault> {
        let (uri, names) = (options.uri()?, options.names()?);
        let name = |what: &str| format!("agentry {what} {process}");
        let (publishing, consuming) = tokio::try_join!(
            BrokerConnection::open(uri.clone(), name("publishes")),
            BrokerConnection::open(uri.clone(), name("consumes"))
        )?;
        let events = Confirms::open(&publishing).await?;
        topology::declare(events.channel(), &names).await?;
        let signals = consume_signals(&consuming, &names, process, number).await?;
        let session = Self { publishing, consuming, events, broken: CancellationToken::new(), why: Mutex::new(None) };
        Ok((session, signals))
    }

    pub fn publishing(&self) -> &BrokerConnection {
        &self.publishing
    }

    pub fn consuming(&self) -> &BrokerConnection {
        &self.consuming
    }

    pub fn events(&self) -> &Confirms {
        &self.events
    }

    pub fn is_blocked(&self) -> bool {
        self.publishing.is_blocked()
    }

    /// Gives the session up, so that the supervisor opens another one.
    pub fn fail(&self, fault: Fault) {
        lock(&self.why).get_or_insert(fault);
        self.broken.cancel();
    }

    pub fn has_failed(&self) -> bool {
        self.broken.is_cancelled()
    }

    pub fn cut(&self) {
        self.broken.cancel();
        self.publishing.cut();
        self.consuming.cut();
    }

    pub async fn close(&self) {
        self.broken.cancel();
        tokio::join!(self.publishing.close(), self.consuming.close());
    }

    /// Waits until a connection ends or the session is given up.
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

fn end_of(connection: &BrokerConnection) -> impl Future<Output = Fault> {
    let mut heard = Box::pin(connection.connection().events_listener());
    async move {
        let mut look = tokio::time::interval(CHECK_EVERY);
        loop {
            tokio::select! {
                event = heard.next() => match event {
                    Some(lapin::Event::Error(error)) => return Fault::new(error.to_string()),
                    Some(lapin::Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "RabbitMQ blocks publishers; check its memory and disk alarms");
                    }
                    Some(lapin::Event::ConnectionUnblocked) => tracing::info!("RabbitMQ accepts messages again"),
                    Some(_) => {}
                    None => return Fault::new("the connection ended"),
                },
                _ = look.tick() => if !connection.is_connected() { return Fault::new("the connection was closed") },
            }
        }
    }
}

async fn consume_signals(
    connection: &BrokerConnection,
    names: &Names,
    process: Process,
    number: u64,
) -> Result<SignalsConsumer, Fault> {
    let channel = connection.channel().await?;
    let queue = names.signals_of(&process.to_string(), number);
    topology::declare_signals(&channel, names, queue.clone()).await?;
    // Hints are not acknowledged: recovery finds lost ones in the store.
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
    let consumer = within("consuming signals", consuming).await?;
    Ok(SignalsConsumer { channel, queue, consumer })
}
