//! Wakes that arrive: consumed fairly, acknowledged when they are handed over.

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
use crate::lanes::Lanes;
use crate::listeners::lock;
use crate::port::{Wake, Wakes};

/// Messages of one queue that a worker may hold unacknowledged. They are acknowledged when their wakes are handed
/// over, so this bounds what a worker without free places keeps from the others, and still covers the way to the
/// broker and back.
const PREFETCH: u16 = 2;
/// Deliveries of a cancelled consumer are still being settled while those of its successor arrive.
const SETTLER_SLACK: usize = 4;

/// Wakes that arrived and wait for a consumer of this process.
#[derive(Debug)]
pub(super) struct Incoming {
    lanes: Mutex<Lanes<Entry>>,
    arrived: Notify,
    /// How many consumers of this process want wakes of each mode.
    wanted: watch::Sender<[usize; 4]>,
    /// How often wakes may have been lost.
    lost: AtomicU64,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    wake: Wake,
    ticket: Arc<Ticket>,
}

/// One message of wakes. It is settled when the last of its wakes leaves the lanes.
#[derive(Debug)]
struct Ticket {
    tag: u64,
    returned: AtomicBool,
    settler: Settler,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let returned = self.returned.load(Ordering::Relaxed);
        let settlement = if returned { Settlement::Return } else { Settlement::Ack };
        // The settler is gone with its connection: then the broker delivers the message again.
        let _ = self.settler.try_send((self.tag, settlement));
    }
}

impl Incoming {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            lanes: Mutex::default(),
            arrived: Notify::new(),
            wanted: watch::Sender::new([0; 4]),
            lost: AtomicU64::new(0),
            stop,
        }
    }

    /// Joins the consumers of these modes.
    pub fn join(self: &Arc<Self>, modes: ModeSet) -> Box<dyn Wakes> {
        self.wanted.send_modify(|wanted| modes.iter().for_each(|mode| wanted[mode as usize] += 1));
        Box::new(RabbitWakes { incoming: Arc::clone(self), modes, seen_lost: self.lost.load(Ordering::Relaxed) })
    }

    /// Wakes may have been lost: consumers look into the store.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes that wait.
    pub fn depth(&self) -> usize {
        lock(&self.lanes).len()
    }

    /// Gives wakes of these modes back that nobody took.
    pub fn give_back(&self, modes: ModeSet) {
        let entries = lock(&self.lanes).take(modes, usize::MAX);
        for entry in &entries {
            entry.ticket.returned.store(true, Ordering::Relaxed);
        }
    }

    fn wanted(&self) -> ModeSet {
        let wanted = self.wanted.borrow();
        let modes = ExecutionMode::ALL.into_iter().filter(|mode| wanted[*mode as usize] > 0);
        modes.fold(ModeSet::NONE, ModeSet::with)
    }

    fn arrive(&self, delivery: &Delivery, settler: &Settler) {
        let ticket =
            Arc::new(Ticket { tag: delivery.delivery_tag, returned: AtomicBool::new(false), settler: settler.clone() });
        match wire::wakes::decode(&delivery.data) {
            Ok(wakes) => {
                let mut lanes = lock(&self.lanes);
                for wake in wakes {
                    lanes.push(wake.mode, wake.priority, Entry { wake, ticket: Arc::clone(&ticket) });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "wakes cannot be read; the store is read instead");
                self.lose();
            }
        }
        self.arrived.notify_waiters();
    }

    /// Consumes what is wanted until something fails.
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
        let mut changes = self.wanted.subscribe();
        let mut consumers =
            Consumers { channel, names, live: Default::default(), count: 0, deliveries: SelectAll::new() };
        loop {
            let wanted = self.wanted();
            for mode in ExecutionMode::ALL {
                match (wanted.contains(mode), consumers.has(mode)) {
                    (true, false) => consumers.subscribe(mode).await?,
                    (false, true) => {
                        consumers.unsubscribe(mode).await?;
                        self.give_back(ModeSet::NONE.with(mode));
                    }
                    _ => {}
                }
            }
            tokio::select! {
                arrival = consumers.deliveries.next(), if !consumers.deliveries.is_empty() => match arrival {
                    Some(Arrival::Message(mode, delivery)) if consumers.has(mode) => self.arrive(&delivery, settler),
                    // On its way when its consumer was cancelled.
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

/// The consumers at the broker: one for each queue of each wanted mode.
struct Consumers<'a> {
    channel: &'a Channel,
    names: &'a Names,
    /// The tags of those that were not cancelled.
    live: [Vec<ShortString>; 4],
    /// Makes tags unlike those that were cancelled.
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

/// One consumer of this process.
struct RabbitWakes {
    incoming: Arc<Incoming>,
    modes: ModeSet,
    seen_lost: u64,
}

#[async_trait]
impl Wakes for RabbitWakes {
    async fn next(&mut self, limit: usize) -> Vec<Wake> {
        loop {
            let bell = self.incoming.arrived.notified();
            tokio::pin!(bell);
            // Registered before looking, so that a wake between the look and the wait is heard.
            bell.as_mut().enable();
            let taken = lock(&self.incoming.lanes).take(self.modes, limit.max(1));
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
        self.incoming.wanted.send_modify(|wanted| self.modes.iter().for_each(|mode| wanted[mode as usize] -= 1));
    }
}
