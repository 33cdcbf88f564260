//! Outgoing events: persistent, mandatory, confirmed. The caller waits for the confirm; an event without one when a
//! connection ends is published again, with the same id, on the next connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agentry_core::event::Event;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation};
use tokio::sync::{Semaphore, watch};

use super::cloudevent::{self, CONTENT_TYPE};
use super::confirms::Message;
use super::fault::Fault;
use super::options::Names;
use super::session::Session;
use super::topology::PROCESS_HEADER;
use super::unroutable::UnroutableTopics;
use super::wire::signals::Process;
use crate::port::BusError;

/// Time that a caller waits for a confirm, over reconnects and blocked connections. The outbox of the store keeps the
/// event and tries again.
const PATIENCE: Duration = Duration::from_secs(8);
/// Time without a confirm after which the connection counts as dead. A live broker confirms in milliseconds, with a
/// slow disk within a second or two.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of events in flight; further callers wait.
const MAX_UNCONFIRMED: usize = 4_096;
const BLOCKED_POLL: Duration = Duration::from_millis(20);
/// Delivery mode of messages that survive a restart of the broker.
pub(super) const PERSISTENT: u8 = 2;

#[derive(Debug)]
pub(super) struct Publisher {
    names: Names,
    process: String,
    places: Semaphore,
    pub unconfirmed: AtomicUsize,
    pub returned: AtomicU64,
    pub unroutable: UnroutableTopics,
    /// Publications whose callers were dropped before the confirm; the client library keeps them until its confirms are
    /// collected.
    abandoned: AtomicUsize,
}

enum Published {
    Confirmed,
    Refused,
}

impl Publisher {
    pub fn new(names: Names, process: Process) -> Self {
        Self {
            names,
            process: process.to_string(),
            places: Semaphore::new(MAX_UNCONFIRMED),
            unconfirmed: AtomicUsize::new(0),
            returned: AtomicU64::new(0),
            unroutable: UnroutableTopics::default(),
            abandoned: AtomicUsize::new(0),
        }
    }

    /// Publishes an event and waits up to [`PATIENCE`] for the confirm.
    pub async fn publish(&self, sessions: &watch::Sender<Option<Arc<Session>>>, event: &Event) -> Result<(), BusError> {
        let message = self.message(event).map_err(|fault| BusError::Unavailable(fault.to_string()))?;
        let mut last = None;
        let publishing = self.until_confirmed(sessions.subscribe(), &message, &mut last);
        match tokio::time::timeout(PATIENCE, publishing).await {
            Ok(Published::Confirmed) => Ok(()),
            Ok(Published::Refused) => Err(BusError::Unavailable(format!(
                "RabbitMQ refused the event `{}`: a queue that it goes to is full",
                event.id
            ))),
            Err(_) => {
                let reason = last.map_or_else(|| "no connection".to_owned(), |fault: Fault| fault.to_string());
                Err(BusError::Unavailable(format!("no confirm from RabbitMQ in {} s: {reason}", PATIENCE.as_secs())))
            }
        }
    }

    async fn until_confirmed(
        &self,
        mut sessions: watch::Receiver<Option<Arc<Session>>>,
        message: &Message,
        last: &mut Option<Fault>,
    ) -> Published {
        let _place = self.places.acquire().await;
        loop {
            let usable = |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|session| !session.has_failed());
            let Ok(session) = sessions.wait_for(usable).await.map(|session| session.clone()) else {
                return std::future::pending().await;
            };
            let Some(session) = session else { continue };
            while session.is_blocked() && !session.has_failed() {
                *last = Some(Fault::new("it blocks publishers because it is short of memory or disk"));
                tokio::time::sleep(BLOCKED_POLL).await;
            }
            match self.attempt(&session, message).await {
                Ok(published) => return published,
                Err(fault) => {
                    *last = Some(fault.clone());
                    if !session.is_blocked() {
                        session.fail(fault);
                    }
                }
            }
        }
    }

    async fn attempt(&self, session: &Session, message: &Message) -> Result<Published, Fault> {
        let (mut in_flight, began) = (InFlightEvent::new(self), Instant::now());
        let publishing = session.events().publish(self.names.events(), message);
        let confirmation = match tokio::time::timeout(CONFIRM_TIMEOUT, publishing).await {
            Ok(result) => result.map_err(|error| Fault::new(format!("publishing an event: {error}"))),
            Err(_) => Err(Fault::new(format!("an event has no confirm after {} s", CONFIRM_TIMEOUT.as_secs()))),
        };
        in_flight.settled = confirmation.is_ok();
        match confirmation? {
            Confirmation::Ack(returned) => {
                self.record_routing(message, returned.as_deref(), began);
                Ok(Published::Confirmed)
            }
            Confirmation::Nack(_) => Ok(Published::Refused),
            Confirmation::NotRequested => Err(Fault::new("the channel of events has no confirms")),
        }
    }

    /// Records whether a queue was bound to the topic; an unroutable event is no error.
    fn record_routing(&self, message: &Message, returned: Option<&Delivery>, began: Instant) {
        match returned {
            Some(returned) => {
                self.returned.fetch_add(1, Ordering::Relaxed);
                self.unroutable.returned(returned.routing_key.as_str(), Instant::now());
            }
            None => self.unroutable.routed(message.key.as_str(), began),
        }
    }

    fn message(&self, event: &Event) -> Result<Message, Fault> {
        let key = ShortString::try_new(event.topic.as_str())
            .map_err(|error| Fault::new(format!("the topic of the event `{}`: {error}", event.id)))?;
        let mut headers = FieldTable::default();
        headers.insert(PROCESS_HEADER.into(), AMQPValue::LongString(self.process.as_str().into()));
        let mut properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        if let Ok(id) = ShortString::try_new(event.id.as_str()) {
            properties = properties.with_message_id(id);
        }
        Ok(Message { key, body: cloudevent::encode(event)?, properties })
    }

    /// Lets the client library forget publications whose callers were dropped.
    pub async fn collect_abandoned(&self, session: &Session) {
        if self.abandoned.swap(0, Ordering::Relaxed) > 0 {
            let waiting = session.events().forget_abandoned();
            if !matches!(tokio::time::timeout(CONFIRM_TIMEOUT, waiting).await, Ok(Ok(()))) {
                self.abandoned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Counts a publication without a confirm, also when its caller is dropped.
struct InFlightEvent<'a> {
    publisher: &'a Publisher,
    settled: bool,
}

impl<'a> InFlightEvent<'a> {
    fn new(publisher: &'a Publisher) -> Self {
        publisher.unconfirmed.fetch_add(1, Ordering::Relaxed);
        Self { publisher, settled: false }
    }
}

impl Drop for InFlightEvent<'_> {
    fn drop(&mut self) {
        self.publisher.unconfirmed.fetch_sub(1, Ordering::Relaxed);
        self.publisher.abandoned.fetch_add(usize::from(!self.settled), Ordering::Relaxed);
    }
}
