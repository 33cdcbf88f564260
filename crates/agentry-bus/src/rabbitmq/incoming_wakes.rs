//! Incoming wakes: consumed fairly, acknowledged when they are handed to a worker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::agent::{ExecutionMode, ModeSet};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, within};
use super::options::Names;
use super::session::Session;
use super::settle::{Settlement, Settler, settle};
use super::wire;
use crate::listeners::lock;
use crate::port::{Wake, Wakes};
use crate::wake_queues::WakeQueues;

/// Unacknowledged messages per queue and worker. They are acknowledged when their wakes are handed over, so this bounds
/// what a worker without free slots withholds from others, and still covers the round trip to the broker.
const PREFETCH: u16 = 2;
/// Factor for deliveries of a cancelled consumer, which are settled while those of its successor arrive.
const SETTLER_SLACK: usize = 4;

#[derive(Debug)]
pub(super) struct IncomingWakes {
    queues: Mutex<WakeQueues<Entry>>,
    arrived: Notify,
    requested: watch::Sender<[usize; 4]>,
    /// Number of times that wakes may have been lost.
    lost: AtomicU64,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    wake: Wake,
    receipt: Arc<MessageReceipt>,
}

/// One message of wakes. It is settled when the last of its wakes leaves the queues.
#[derive(Debug)]
struct MessageReceipt {
    tag: u64,
    returned: AtomicBool,
    settler: Settler,
}

impl Drop for MessageReceipt {
    fn drop(&mut self) {
        let returned = self.returned.load(Ordering::Relaxed);
        let settlement = if returned { Settlement::Return } else { Settlement::Ack };
        // A settler that is gone took its connection along, so the broker delivers the message again.
        let _ = self.settler.try_send((self.tag, settlement));
    }
}

impl IncomingWakes {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            queues: Mutex::default(),
            arrived: Notify::new(),
            requested: watch::Sender::new([0; 4]),
            lost: AtomicU64::new(0),
            stop,
        }
    }

    pub fn join(self: &Arc<Self>, modes: ModeSet) -> Box<dyn Wakes> {
        self.requested.send_modify(|requested| modes.iter().for_each(|mode| requested[mode as usize] += 1));
        Box::new(RabbitWakes { incoming: Arc::clone(self), modes, seen_lost: self.lost.load(Ordering::Relaxed) })
    }

    pub fn record_loss(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub fn depth(&self) -> usize {
        lock(&self.queues).len()
    }

    pub fn release(&self, modes: ModeSet) {
        let entries = lock(&self.queues).take(modes, usize::MAX);
        for entry in &entries {
            entry.receipt.returned.store(true, Ordering::Relaxed);
        }
    }

    fn requested(&self) -> ModeSet {
        let requested = self.requested.borrow();
        let modes = ExecutionMode::ALL.into_iter().filter(|mode| requested[*mode as usize] > 0);
        modes.fold(ModeSet::NONE, ModeSet::with)
    }

    fn arrive(&self, delivery: &Delivery, settler: &Settler) {
        let receipt = Arc::new(MessageReceipt {
            tag: delivery.delivery_tag,
            returned: AtomicBool::new(false),
            settler: settler.clone(),
        });
        match wire::wakes::decode(&delivery.data) {
            Ok(wakes) => {
                let mut queues = lock(&self.queues);
                for wake in wakes {
                    queues.push(wake.mode, wake.priority, Entry { wake, receipt: Arc::clone(&receipt) });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "RabbitMQ: cannot decode wakes, reading the store instead");
                self.record_loss();
            }
        }
        self.arrived.notify_waiters();
    }

    /// Consumes the requested modes until something fails.
    pub async fn consume(&self, session: &Session, names: &Names) -> Result<(), Fault> {
        let channel = session.consuming().channel().await?;
        within("bounding deliveries", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let open = ExecutionMode::ALL.len() * usize::from(names.shards()) * usize::from(PREFETCH);
        let (settler, settled) = mpsc::channel(open * SETTLER_SLACK);
        tokio::select! {
            result = self.receive(&channel, names, &settler) => result,
            result = settle(channel.clone(), settled, Duration::ZERO) => result,
        }
    }

    async fn receive(&self, channel: &Channel, names: &Names, settler: &Settler) -> Result<(), Fault> {
        let mut changes = self.requested.subscribe();
        let mut consumers =
            Consumers { channel, names, live: Default::default(), count: 0, deliveries: SelectAll::new() };
        loop {
            let requested = self.requested();
            for mode in ExecutionMode::ALL {
                match (requested.contains(mode), consumers.has(mode)) {
                    (true, false) => consumers.subscribe(mode).await?,
                    (false, true) => {
                        consumers.unsubscribe(mode).await?;
                        self.release(ModeSet::NONE.with(mode));
                    }
                    _ => {}
                }
            }
            tokio::select! {
                arrival = consumers.deliveries.next(), if !consumers.deliveries.is_empty() => match arrival {
                    Some(Arrival::Message(mode, delivery)) if consumers.has(mode) => self.arrive(&delivery, settler),
                    // It was in flight when its consumer was cancelled.
                    Some(Arrival::Message(_, delivery)) => {
                        let _ = settler.try_send((delivery.delivery_tag, Settlement::Return));
                    }
                    Some(Arrival::End(mode, tag)) if consumers.live[mode as usize].contains(&tag) => {
                        return Err(Fault::new(format!("the broker ended the consumer of {mode} wakes")));
                    }
                    Some(Arrival::Error(error)) => return Err(Fault::new(error)),
                    Some(Arrival::End(..)) | None => {}
                },
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "nearly all are messages; a box would be an allocation for each")]
enum Arrival {
    Message(ExecutionMode, Delivery),
    Error(String),
    End(ExecutionMode, ShortString),
}

/// Consumers at the broker: one per queue of each requested mode.
struct Consumers<'a> {
    channel: &'a Channel,
    names: &'a Names,
    /// Tags of consumers that are not cancelled.
    live: [Vec<ShortString>; 4],
    count: u64,
    deliveries: SelectAll<BoxStream<'static, Arrival>>,
}

impl Consumers<'_> {
    fn has(&self, mode: ExecutionMode) -> bool {
        !self.live[mode as usize].is_empty()
    }

    async fn subscribe(&mut self, mode: ExecutionMode) -> Result<(), Fault> {
        for shard in 0..self.names.shards() {
            self.count += 1;
            let tag: ShortString = format!("{mode}.{shard}.{}", self.count).into();
            let (queue, options) = (self.names.wakes(mode, shard), BasicConsumeOptions::default());
            let consuming = self.channel.basic_consume(queue, tag.clone(), options, FieldTable::default());
            let consumer = within("consuming wakes", consuming).await?;
            let arrivals = consumer.map(move |delivery| match delivery {
                Ok(delivery) => Arrival::Message(mode, delivery),
                Err(error) => Arrival::Error(error.to_string()),
            });
            self.live[mode as usize].push(tag.clone());
            self.deliveries.push(arrivals.chain(stream::iter([Arrival::End(mode, tag)])).boxed());
        }
        Ok(())
    }

    async fn unsubscribe(&mut self, mode: ExecutionMode) -> Result<(), Fault> {
        for tag in std::mem::take(&mut self.live[mode as usize]) {
            let cancelling = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            within("ending the consumption of wakes", cancelling).await?;
        }
        Ok(())
    }
}

struct RabbitWakes {
    incoming: Arc<IncomingWakes>,
    modes: ModeSet,
    seen_lost: u64,
}

#[async_trait]
impl Wakes for RabbitWakes {
    async fn next(&mut self, limit: usize) -> Vec<Wake> {
        loop {
            let bell = self.incoming.arrived.notified();
            tokio::pin!(bell);
            // Registered before the check, so that a wake between check and wait is not missed.
            bell.as_mut().enable();
            let taken = lock(&self.incoming.queues).take(self.modes, limit.max(1));
            if !taken.is_empty() {
                return taken.into_iter().map(|entry| entry.wake).collect();
            }
            tokio::select! {
                () = bell => {}
                () = self.incoming.stop.cancelled() => return Vec::new(),
            }
        }
    }

    fn overflowed(&mut self) -> bool {
        let lost = self.incoming.lost.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen_lost, lost) != lost
    }
}

impl Drop for RabbitWakes {
    fn drop(&mut self) {
        self.incoming
            .requested
            .send_modify(|requested| self.modes.iter().for_each(|mode| requested[mode as usize] -= 1));
    }
}
