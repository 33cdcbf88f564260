//! One lane for each channel that has something to say: messages go one after the other, and a channel that must wait
//! holds up no other. What waits in a lane stays claimed; when the process dies or stops, others claim it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::id::OutboxId;
use agentry_core::outbox::OutboxBody;
use agentry_core::slack::SlackPlace;
use agentry_store::{Delivery, PendingMessage};
use tokio_util::task::TaskTracker;

use super::SlackOut;
use super::deliver::deliver;
use super::pace::Pace;
use crate::context::{Context, lock};

/// Messages in all lanes together at most; more wait in the store.
const MAX_WAITING: usize = 8_192;
/// When the store's messages are looked at again while the lanes are full, or this process cannot speak.
const LATER: Duration = Duration::from_secs(5);
/// Posts of a channel: Slack allows about one a second and short bursts. A little slower, because clocks differ.
const POST_EVERY: Duration = Duration::from_millis(1_050);
/// Posts of a channel at once.
const POST_BURST: u32 = 3;
/// Changes of posts for the sake of progress, in a workspace: Slack allows 50 a minute, and ends need some.
const UPDATE_EVERY: Duration = Duration::from_millis(1_700);
/// Such changes at once.
const UPDATE_BURST: u32 = 10;
/// Tries to note what became of a message.
const SETTLE_TRIES: u32 = 5;
/// Wait between them.
const SETTLE_WAIT: Duration = Duration::from_millis(500);
/// Posts of questions whose `ts` is remembered.
const MAX_POSTS: usize = 4_096;

/// A channel of a workspace.
pub(crate) type Channel = (String, String);

/// The channel of a place.
pub(super) fn channel_of(place: &SlackPlace) -> Channel {
    (place.team.clone(), place.channel.clone())
}

/// See the module.
pub(crate) struct Lanes {
    pub out: SlackOut,
    pub posts: Pace<Channel>,
    pub updates: Pace<String>,
    lanes: Mutex<HashMap<Channel, VecDeque<PendingMessage>>>,
    waiting: AtomicUsize,
    /// Where questions were posted by this process: spares a search.
    known: Mutex<HashMap<String, String>>,
    pub running: TaskTracker,
}

impl Lanes {
    pub fn new(out: SlackOut) -> Self {
        Self {
            out,
            posts: Pace::new(POST_EVERY, POST_BURST),
            updates: Pace::new(UPDATE_EVERY, UPDATE_BURST),
            lanes: Mutex::default(),
            waiting: AtomicUsize::new(0),
            known: Mutex::default(),
            running: TaskTracker::new(),
        }
    }

    /// Remembers the post with this mark.
    pub fn remember(&self, mark: &str, ts: &str) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_POSTS {
            known.clear();
        }
        known.insert(mark.to_owned(), ts.to_owned());
    }

    /// The post with this mark, when this process made it.
    pub fn recall(&self, mark: &str) -> Option<String> {
        lock(&self.known).get(mark).cloned()
    }

    /// Puts a message into its lane. True: the lane is new and must be run.
    fn push(&self, channel: &Channel, pending: PendingMessage) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut lanes = lock(&self.lanes);
        let is_new = !lanes.contains_key(channel);
        lanes.entry(channel.clone()).or_default().push_back(pending);
        is_new
    }

    /// The next message of a lane. `None`: the lane is empty and gone.
    fn next(&self, channel: &Channel) -> Option<PendingMessage> {
        let mut lanes = lock(&self.lanes);
        let next = lanes.get_mut(channel).and_then(VecDeque::pop_front);
        match &next {
            Some(_) => drop(self.waiting.fetch_sub(1, Ordering::Relaxed)),
            None => drop(lanes.remove(channel)),
        }
        next
    }

    /// Whether nothing waits to be said in this channel.
    pub fn is_idle(&self, channel: &Channel) -> bool {
        !lock(&self.lanes).contains_key(channel)
    }
}

/// Takes claimed messages over. Returns what becomes of those that are not taken.
pub(crate) fn hand_over(ctx: &Arc<Context>, batch: Vec<PendingMessage>) -> Vec<(OutboxId, Delivery)> {
    let mut refused = Vec::new();
    for pending in batch {
        let OutboxBody::Slack { message } = &pending.message.body else { continue };
        let later = (pending.message.id, Delivery::RetryAt(ctx.now().after(LATER)));
        let Some(slack) = &ctx.slack else {
            tracing::warn!(message = %pending.message.id, "an answer for Slack waits: this process has no bot token");
            refused.push(later);
            continue;
        };
        if slack.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            refused.push(later);
            continue;
        }
        let channel = channel_of(&message.place);
        if slack.push(&channel, pending) {
            slack.running.spawn(run(Arc::clone(ctx), Arc::clone(slack), channel));
        }
    }
    refused
}

/// Says what a lane holds until it is empty.
async fn run(ctx: Arc<Context>, slack: Arc<Lanes>, channel: Channel) {
    while let Some(pending) = slack.next(&channel) {
        let delivery = deliver(&ctx, &slack, &pending).await;
        ctx.metrics.delivered(pending.message.body.kind(), &delivery);
        settle(&ctx, pending.message.id, delivery).await;
    }
}

/// Notes what became of a message. When that fails for good the message comes again, and is found where it was said.
async fn settle(ctx: &Context, id: OutboxId, delivery: Delivery) {
    for left in (0..SETTLE_TRIES).rev() {
        match ctx.store.settle_outbox(vec![(id, delivery.clone())], ctx.now()).await {
            Ok(()) => break,
            Err(error) if left == 0 => tracing::warn!(%error, "could not note what was said in Slack"),
            Err(_) => tokio::time::sleep(SETTLE_WAIT).await,
        }
    }
    lock(&ctx.held_messages).remove(&id);
}
