//! Foreign events: competing consumers of one durable queue. Events are acknowledged when the store has them.

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
use crate::port::{DeliveredEvent, DeliveryVerdict, Inbound};

/// Unacknowledged events per process: enough for the store to commit them in groups.
const PREFETCH: u16 = 256;
/// Delay before a returned event is delivered again: the store needs a moment to recover.
const RETURN_PAUSE: Duration = Duration::from_millis(250);
/// Time that the last verdicts have to reach the broker when the consumption ends.
const VERDICT_GRACE: Duration = Duration::from_millis(500);
/// Poll interval of [`VERDICT_GRACE`].
const VERDICT_POLL: Duration = Duration::from_millis(5);
const TAG: &str = "inbound";
const REASON_HEADER: &str = "agentry-reason";
const TOPIC_HEADER: &str = "agentry-topic";

/// Foreign events that wait for a consumer of this process.
#[derive(Debug)]
pub(super) struct Arrivals {
    waiting: Mutex<VecDeque<DeliveredEvent>>,
    arrived: Notify,
    requested: watch::Sender<usize>,
    pub rejected: AtomicU64,
    stop: CancellationToken,
}

struct Reject {
    tag: u64,
    topic: ShortString,
    content_type: Option<ShortString>,
    body: Vec<u8>,
    reason: String,
}

#[derive(Clone)]
struct VerdictSender {
    settler: Settler,
    rejects: mpsc::Sender<Reject>,
}

impl Arrivals {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            requested: watch::Sender::new(0),
            rejected: AtomicU64::new(0),
            stop,
        }
    }

    pub fn join(self: &Arc<Self>) -> Box<dyn Inbound> {
        self.requested.send_modify(|requested| *requested += 1);
        Box::new(RabbitInbound { arrivals: Arc::clone(self) })
    }

    /// Returns events that nobody took.
    pub fn release(&self) {
        // Dropped outside of the lock, because each drop reports to the broker.
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        drop(waiting);
    }

    /// Consumes while this process has consumers, until something fails.
    pub async fn consume(&self, session: &Session, names: &Names) -> Result<(), Fault> {
        let mut requested = self.requested.subscribe();
        while requested.wait_for(|requested| *requested > 0).await.is_ok() {
            topology::declare_inbound(session.consuming(), names).await?;
            let channel = session.consuming().channel().await?;
            within("bounding deliveries", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
            // Every unacknowledged delivery is settled once, so these channels never fill up.
            let (settler, settled) = mpsc::channel(usize::from(PREFETCH));
            let (rejects, rejected) = mpsc::channel(usize::from(PREFETCH));
            let verdicts = VerdictSender { settler: settler.clone(), rejects };
            let mut settling = pin!(settle(channel.clone(), settled, RETURN_PAUSE));
            tokio::select! {
                result = self.receive(&channel, names, &verdicts) => result?,
                result = &mut settling => result?,
                result = self.reject(session, names, rejected, settler.clone()) => result?,
            }
            // The last consumer has left. Verdicts already given reach the broker; the other deliveries return to the
            // queue when the channel closes.
            let verdicts_sent = async {
                while settler.capacity() < settler.max_capacity() {
                    tokio::time::sleep(VERDICT_POLL).await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(VERDICT_GRACE, verdicts_sent) => {}
                result = &mut settling => result?,
            }
            within("closing a channel", channel.close(200, "OK".into())).await?;
            self.release();
        }
        Ok(())
    }

    async fn receive(&self, channel: &Channel, names: &Names, verdicts: &VerdictSender) -> Result<(), Fault> {
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(names.inbound(), TAG.into(), options, FieldTable::default());
        let mut consumer = within("consuming foreign events", consuming).await?;
        let mut requested = self.requested.subscribe();
        loop {
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.arrive(delivery, verdicts),
                    Some(Err(error)) => return Err(Fault::new(format!("consuming foreign events: {error}"))),
                    None => return Err(Fault::new("the broker ended the consumer of foreign events")),
                },
                () = async { requested.wait_for(|requested| *requested == 0).await.map(drop).unwrap_or_default() } => {
                    let cancelling = channel.basic_cancel(TAG.into(), BasicCancelOptions::default());
                    return within("ending the consumption of foreign events", cancelling).await;
                }
            }
        }
    }

    fn arrive(&self, delivery: Delivery, verdicts: &VerdictSender) {
        let content_type = delivery.properties.content_type().clone();
        let media = content_type.as_ref().map(ShortString::as_str);
        let event = cloudevent::decode(delivery.routing_key.as_str(), media, &delivery.data);
        let (tag, topic, body) = (delivery.delivery_tag, delivery.routing_key, delivery.data);
        let of = move |reason| Reject { tag, topic, content_type, body, reason };
        let verdicts = verdicts.clone();
        match event {
            Ok(event) => {
                let delivered = DeliveredEvent::new(event, move |verdict| match verdict {
                    DeliveryVerdict::Accepted => verdicts.settle(tag, Settlement::Ack),
                    DeliveryVerdict::Returned => verdicts.settle(tag, Settlement::Return),
                    DeliveryVerdict::Rejected(reason) => verdicts.reject(of(reason)),
                });
                lock(&self.waiting).push_back(delivered);
                self.arrived.notify_one();
            }
            Err(reason) => verdicts.reject(of(reason.to_string())),
        }
    }

    /// Moves rejected messages to their own queue. A message that cannot be moved is returned.
    async fn reject(
        &self,
        session: &Session,
        names: &Names,
        mut rejects: mpsc::Receiver<Reject>,
        settler: Settler,
    ) -> Result<(), Fault> {
        // A channel of its own, so that returned messages of the two kinds are not mixed up.
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
                // The queue of rejected messages is full or missing.
                _ => Settlement::Return,
            };
            let _ = settler.try_send((reject.tag, settlement));
        }
        Ok(())
    }
}

impl VerdictSender {
    fn settle(&self, tag: u64, settlement: Settlement) {
        // A settler that is gone took its connection along, so the broker delivers the event again.
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
    async fn next(&mut self) -> Vec<DeliveredEvent> {
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
        self.arrivals.requested.send_modify(|requested| *requested -= 1);
        // Another consumer of this process may have missed a notification that this one received.
        self.arrivals.arrived.notify_one();
    }
}
