//! Events on their way out: persistent, mandatory, confirmed. The caller waits for the confirm; what is unconfirmed when
//! a connection ends is published again, with the same id, on the next one.

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
use super::unheard::Unheard;
use super::wire::signals::Process;
use crate::port::BusError;

/// How long a caller waits for an event to be confirmed, over reconnects and blocked connections. The outbox of the
/// store keeps the event and tries again.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one publication may stay without a confirm before its connection counts as dead. A broker that is alive
/// confirms in milliseconds, with a slow disk within a second or two.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Events on their way at most; further callers wait.
const MAX_UNCONFIRMED: usize = 4_096;
/// How often a blocked connection is looked at.
const BLOCKED_POLL: Duration = Duration::from_millis(20);
/// The delivery mode of messages that survive a restart of the broker.
pub(super) const PERSISTENT: u8 = 2;

/// The way out for events.
#[derive(Debug)]
pub(super) struct Publisher {
    names: Names,
    process: String,
    places: Semaphore,
    pub unconfirmed: AtomicUsize,
    pub returned: AtomicU64,
    pub unheard: Unheard,
    /// Publications whose callers left before the confirm; the client library keeps them until it is told to look.
    abandoned: AtomicUsize,
}

/// What became of one publication.
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
            unheard: Unheard::default(),
            abandoned: AtomicUsize::new(0),
        }
    }

    /// Publishes an event and waits for the confirm, for [`PATIENCE`] at most.
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
                *last = Some(Fault::new("it takes no messages for now, because it is short of memory or disk"));
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
        let (mut open, began) = (Open::new(self), Instant::now());
        let publishing = session.events().publish(self.names.events(), message);
        let confirmation = match tokio::time::timeout(CONFIRM_TIMEOUT, publishing).await {
            Ok(result) => result.map_err(|error| Fault::new(format!("publishing an event: {error}"))),
            Err(_) => Err(Fault::new(format!("an event has no confirm after {} s", CONFIRM_TIMEOUT.as_secs()))),
        };
        open.settled = confirmation.is_ok();
        match confirmation? {
            Confirmation::Ack(returned) => {
                self.learn(message, returned.as_deref(), began);
                Ok(Published::Confirmed)
            }
            Confirmation::Nack(_) => Ok(Published::Refused),
            Confirmation::NotRequested => Err(Fault::new("the channel of events has no confirms")),
        }
    }

    /// Nobody is bound to a topic: that is not an error, but good to know.
    fn learn(&self, message: &Message, returned: Option<&Delivery>, began: Instant) {
        match returned {
            Some(returned) => {
                self.returned.fetch_add(1, Ordering::Relaxed);
                self.unheard.returned(returned.routing_key.as_str(), Instant::now());
            }
            None => self.unheard.routed(message.key.as_str(), began),
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

    /// Lets the client library forget publications whose callers left, when there are some.
    pub async fn tidy(&self, session: &Session) {
        if self.abandoned.swap(0, Ordering::Relaxed) > 0 {
            let waiting = session.events().forget_abandoned();
            if !matches!(tokio::time::timeout(CONFIRM_TIMEOUT, waiting).await, Ok(Ok(()))) {
                self.abandoned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Counts a publication that waits for its confirm, also when its caller leaves.
struct Open<'a> {
    publisher: &'a Publisher,
    settled: bool,
}

impl<'a> Open<'a> {
    fn new(publisher: &'a Publisher) -> Self {
        publisher.unconfirmed.fetch_add(1, Ordering::Relaxed);
        Self { publisher, settled: false }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.publisher.unconfirmed.fetch_sub(1, Ordering::Relaxed);
        self.publisher.abandoned.fetch_add(usize::from(!self.settled), Ordering::Relaxed);
    }
}
