//! Events that others publish: competing consumers of one lasting queue. Acknowledged when the store has them.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cloudevent;
use super::confirms::{Confirms, Message};
use super::fault::{Fault, within};
use super::options::Names;
use super::publish::PERSISTENT;
use super::session::Session;
use super::settle::{Settlement, Settler, settle};
use super::topology;
use crate::listeners::lock;
use crate::port::{Delivered, Inbound, Verdict};

/// Events that one process holds unacknowledged: enough for the store to commit them in groups.
const PREFETCH: u16 = 256;
/// How long an event that was returned waits before it comes again: the store needs a moment to recover.
const RETURN_PAUSE: Duration = Duration::from_millis(250);
/// How long verdicts that were just given may take to leave when the consumption ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LAST_WORDS_POLL: Duration = Duration::from_millis(5);
/// The tag of the consumer; it is alone on its channel.
const TAG: &str = "inbound";
/// The header that says why a message was rejected.
const REASON_HEADER: &str = "agentry-reason";
/// The header that says on which topic a rejected message was published.
const TOPIC_HEADER: &str = "agentry-topic";

/// Foreign events that arrived and wait for a consumer of this process.
#[derive(Debug)]
pub(super) struct Arrivals {
    waiting: Mutex<VecDeque<Delivered>>,
    arrived: Notify,
    wanted: watch::Sender<usize>,
    pub rejected: AtomicU64,
    stop: CancellationToken,
}

/// A message that cannot be taken.
struct Reject {
    tag: u64,
    topic: ShortString,
    content_type: Option<ShortString>,
    body: Vec<u8>,
    reason: String,
}

/// Where verdicts go.
#[derive(Clone)]
struct Desk {
    settler: Settler,
    rejects: mpsc::Sender<Reject>,
}

impl Arrivals {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            wanted: watch::Sender::new(0),
            rejected: AtomicU64::new(0),
            stop,
        }
    }

    /// Joins the consumers.
    pub fn join(self: &Arc<Self>) -> Box<dyn Inbound> {
        self.wanted.send_modify(|wanted| *wanted += 1);
        Box::new(RabbitInbound { arrivals: Arc::clone(self) })
    }

    /// Gives back what nobody took.
    pub fn give_back(&self) {
        // Dropped outside of the lock: each tells the broker.
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        drop(waiting);
    }

    /// Consumes while somebody here wants to, until something fails.
    pub async fn consume(&self, session: &Session, names: &Names) -> Result<(), Fault> {
        let mut wanted = self.wanted.subscribe();
        while wanted.wait_for(|wanted| *wanted > 0).await.is_ok() {
            topology::declare_inbound(session.consuming(), names).await?;
            let channel = session.consuming().channel().await?;
            within("bounding deliveries", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
            // Every open delivery is settled once, so neither is ever full.
            let (settler, settled) = mpsc::channel(usize::from(PREFETCH));
            let (rejects, rejected) = mpsc::channel(usize::from(PREFETCH));
            let desk = Desk { settler: settler.clone(), rejects };
            let mut settling = pin!(settle(channel.clone(), settled, RETURN_PAUSE));
            tokio::select! {
                result = self.receive(&channel, names, &desk) => result?,
                result = &mut settling => result?,
                result = self.reject(session, names, rejected, settler.clone()) => result?,
            }
            // Nobody here wants more. Verdicts that are on their way reach the broker; what is open besides goes back
            // to the queue with the end of the channel.
            let told = async {
                while settler.capacity() < settler.max_capacity() {
                    tokio::time::sleep(LAST_WORDS_POLL).await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(LAST_WORDS, told) => {}
                result = &mut settling => result?,
            }
            within("closing a channel", channel.close(200, "OK".into())).await?;
            self.give_back();
        }
        Ok(())
    }

    /// Receives until nobody wants to.
    async fn receive(&self, channel: &Channel, names: &Names, desk: &Desk) -> Result<(), Fault> {
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(names.inbound(), TAG.into(), options, FieldTable::default());
        let mut consumer = within("consuming foreign events", consuming).await?;
        let mut wanted = self.wanted.subscribe();
        loop {
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.arrive(delivery, desk),
                    Some(Err(error)) => return Err(Fault::new(format!("consuming foreign events: {error}"))),
                    None => return Err(Fault::new("the broker ended the consumer of foreign events")),
                },
                () = async { wanted.wait_for(|wanted| *wanted == 0).await.map(drop).unwrap_or_default() } => {
                    let cancelling = channel.basic_cancel(TAG.into(), BasicCancelOptions::default());
                    return within("ending the consumption of foreign events", cancelling).await;
                }
            }
        }
    }

    fn arrive(&self, delivery: Delivery, desk: &Desk) {
        let content_type = delivery.properties.content_type().clone();
        let media = content_type.as_ref().map(ShortString::as_str);
        let event = cloudevent::decode(delivery.routing_key.as_str(), media, &delivery.data);
        let (tag, topic, body) = (delivery.delivery_tag, delivery.routing_key, delivery.data);
        let of = move |reason| Reject { tag, topic, content_type, body, reason };
        let desk = desk.clone();
        match event {
            Ok(event) => {
                let delivered = Delivered::new(event, move |verdict| match verdict {
                    Verdict::Taken => desk.settle(tag, Settlement::Ack),
                    Verdict::Returned => desk.settle(tag, Settlement::Return),
                    Verdict::Rejected(reason) => desk.reject(of(reason)),
                });
                lock(&self.waiting).push_back(delivered);
                self.arrived.notify_one();
            }
            Err(reason) => desk.reject(of(reason)),
        }
    }

    /// Keeps rejected messages apart. One that cannot be kept goes back to the queue.
    async fn reject(
        &self,
        session: &Session,
        names: &Names,
        mut rejects: mpsc::Receiver<Reject>,
        settler: Settler,
    ) -> Result<(), Fault> {
        // A channel of its own: what comes back on that of events belongs to events.
        let mut kept_apart = None;
        while let Some(reject) = rejects.recv().await {
            let channel = match &kept_apart {
                Some(channel) => channel,
                None => kept_apart.insert(Confirms::open(session.publishing()).await?),
            };
            tracing::warn!(topic = %reject.topic, reason = reject.reason, "rejected a foreign event");
            let mut headers = FieldTable::default();
            headers.insert(REASON_HEADER.into(), AMQPValue::LongString(reject.reason.into()));
            headers.insert(TOPIC_HEADER.into(), AMQPValue::LongString(reject.topic.as_str().into()));
            let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
            if let Some(content_type) = reject.content_type {
                properties = properties.with_content_type(content_type);
            }
            let message = Message { key: names.rejected(), body: reject.body, properties };
            let keeping = channel.publish("".into(), &message);
            let settlement = match within("keeping a rejected event", keeping).await? {
                Confirmation::Ack(None) => {
                    self.rejected.fetch_add(1, Ordering::Relaxed);
                    Settlement::Ack
                }
                // Nobody keeps it: its queue is full or gone.
                _ => Settlement::Return,
            };
            let _ = settler.try_send((reject.tag, settlement));
        }
        Ok(())
    }
}

impl Desk {
    fn settle(&self, tag: u64, settlement: Settlement) {
        // The channel is gone with its connection: then the broker delivers the event again.
        let _ = self.settler.try_send((tag, settlement));
    }

    fn reject(&self, reject: Reject) {
        let _ = self.rejects.try_send(reject);
    }
}

struct RabbitInbound {
    arrivals: Arc<Arrivals>,
}

#[async_trait]
impl Inbound for RabbitInbound {
    async fn next(&mut self) -> Vec<Delivered> {
        loop {
            let waiting: Vec<_> = std::mem::take(&mut *lock(&self.arrivals.waiting)).into();
            if !waiting.is_empty() {
                return waiting;
            }
            tokio::select! {
                () = self.arrivals.arrived.notified() => {}
                () = self.arrivals.stop.cancelled() => return Vec::new(),
            }
        }
    }
}

impl Drop for RabbitInbound {
    fn drop(&mut self) {
        self.arrivals.wanted.send_modify(|wanted| *wanted -= 1);
        // Another consumer of this process may have slept through a bell that this one heard.
        self.arrivals.arrived.notify_one();
    }
}
