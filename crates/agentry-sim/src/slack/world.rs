//! What the simulated workspaces hold: messages, views, triggers and addresses to answer to. Decides, and waits for
//! nothing.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use serde_json::Value;

use super::fault::FaultRule;
use super::message::{By, Message};
use super::rates::Rates;

/// Messages kept for each channel; the oldest make room.
const MAX_MESSAGES: usize = 20_000;
/// Triggers, response addresses and views kept of each kind; the oldest make room.
const MAX_KEPT: usize = 20_000;
/// How long a trigger may be exchanged, in microseconds.
const TRIGGER_US: u64 = 3_000_000;
/// How long a response address lives, in microseconds.
const RESPONSE_US: f64 = 30.0 * 60.0 * 1e6;
/// How often a response address may be used.
const RESPONSE_USES: u32 = 5;
/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// A right to open one view.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    /// The workspace.
    pub(super) team: String,
    /// Who did what it comes from.
    pub(super) user: String,
    until_us: u64,
    is_used: bool,
}

/// An address that takes answers to one interaction.
#[derive(Debug, Clone)]
pub(super) struct ResponseUrl {
    /// The workspace.
    pub(super) team: String,
    /// The channel of the interaction.
    pub(super) channel: String,
    /// Who did it.
    pub(super) user: String,
    /// The message that was clicked.
    pub(super) message_ts: Option<String>,
    until_us: u64,
    uses: u32,
}

/// A modal that was opened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct View {
    /// `V…`.
    pub(super) id: String,
    /// The workspace.
    pub(super) team: String,
    /// Who sees it.
    pub(super) user: String,
    /// As the app gave it.
    pub(super) view: Value,
    /// Whether it is open.
    pub(super) open: bool,
    /// What the app found wrong with the last submission, by block.
    pub(super) errors: Option<Value>,
}

/// A map that forgets its oldest entry when it is full.
#[derive(Debug)]
pub(super) struct Kept<T> {
    entries: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Kept<T> {
    /// Keeps an entry with a new key.
    pub(super) fn keep(&mut self, key: String, entry: T) {
        if self.order.len() >= MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.entries.insert(key, entry);
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key)
    }

    /// The entry of a key, to change.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key)
    }

    /// All, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|key| self.entries.get(key))
    }
}

/// All workspaces.
#[derive(Debug, Default)]
pub(super) struct World {
    channels: HashMap<(String, String), VecDeque<Message>>,
    last_us: u64,
    serial: u64,
    triggers: Kept<Trigger>,
    responses: Kept<ResponseUrl>,
    /// The modals.
    pub(super) views: Kept<View>,
    /// How many calls everybody still has.
    pub(super) rates: Rates,
    /// What is to go wrong.
    pub(super) faults: Vec<FaultRule>,
    /// Where things are sent.
    pub(super) target: Option<String>,
    /// Whether every thread exists; see [`super::SlackOptions::any_thread`].
    pub(super) any_thread: bool,
}

/// A message to be posted.
#[derive(Debug)]
pub(super) struct Draft {
    /// The workspace.
    pub(super) team: String,
    /// The channel.
    pub(super) channel: String,
    /// The thread.
    pub(super) thread_ts: Option<String>,
    /// Who writes.
    pub(super) user: String,
    /// The same as a kind.
    pub(super) by: By,
    /// What.
    pub(super) text: String,
    /// Blocks.
    pub(super) blocks: Option<Value>,
    /// Metadata.
    pub(super) metadata: Option<Value>,
    /// The only one who is to see it.
    pub(super) ephemeral_to: Option<String>,
    /// The method.
    pub(super) via: &'static str,
}

impl World {
    /// A number that was not given out before.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A time stamp that was not given out before.
    pub(super) fn stamp(&mut self, now_us: u64) -> String {
        self.last_us = now_us.max(self.last_us + 1);
        format!("{}.{:06}", self.last_us / SECOND_US, self.last_us % SECOND_US)
    }

    /// Posts a message.
    pub(super) fn post(&mut self, draft: Draft, now_us: u64) -> Message {
        let message = Message {
            ts: self.stamp(now_us),
            team: draft.team,
            channel: draft.channel,
            thread_ts: draft.thread_ts,
            user: draft.user,
            by: draft.by,
            text: draft.text,
            blocks: draft.blocks,
            metadata: draft.metadata,
            ephemeral_to: draft.ephemeral_to,
            via: draft.via,
            edits: 0,
            posted_us: now_us,
            updated_us: now_us,
        };
        let channel = self.channels.entry((message.team.clone(), message.channel.clone())).or_default();
        if channel.len() >= MAX_MESSAGES {
            channel.pop_front();
        }
        channel.push_back(message.clone());
        message
    }

    /// The messages of a channel, oldest first.
    pub(super) fn channel(&self, team: &str, channel: &str) -> impl DoubleEndedIterator<Item = &Message> {
        self.channels.get(&(team.to_owned(), channel.to_owned())).into_iter().flatten()
    }

    /// All messages, channel by channel.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.channels.values().flatten()
    }

    /// One message.
    pub(super) fn message(&self, team: &str, channel: &str, ts: &str) -> Option<&Message> {
        // From the end: what is asked for is recent.
        self.channel(team, channel).rev().find(|message| message.ts == ts)
    }

    /// One message, to change.
    pub(super) fn message_mut(&mut self, team: &str, channel: &str, ts: &str) -> Option<&mut Message> {
        self.channels.get_mut(&(team.to_owned(), channel.to_owned()))?.iter_mut().rev().find(|message| message.ts == ts)
    }

    /// Removes a message; says whether it was there.
    pub(super) fn remove(&mut self, team: &str, channel: &str, ts: &str) -> bool {
        let Some(messages) = self.channels.get_mut(&(team.to_owned(), channel.to_owned())) else { return false };
        let before = messages.len();
        messages.retain(|message| message.ts != ts);
        messages.len() < before
    }

    /// A trigger of something that a user does now.
    pub(super) fn trigger(&mut self, team: &str, user: &str, now_us: u64) -> String {
        let id = format!("{}.{}.sim", now_us, self.serial());
        let (team, user) = (team.to_owned(), user.to_owned());
        self.triggers.keep(id.clone(), Trigger { team, user, until_us: now_us + TRIGGER_US, is_used: false });
        id
    }

    /// Exchanges a trigger, or says Slack's word for why not.
    pub(super) fn exchange(&mut self, id: &str, now_us: u64) -> Result<Trigger, &'static str> {
        let trigger = self.triggers.get_mut(id).ok_or("invalid_trigger_id")?;
        if trigger.is_used {
            return Err("exchanged_trigger_id");
        }
        if now_us > trigger.until_us {
            return Err("expired_trigger_id");
        }
        trigger.is_used = true;
        Ok(trigger.clone())
    }

    /// A new response address; its life is multiplied by `scale`.
    pub(super) fn response(
        &mut self,
        to: (&str, &str, &str),
        message_ts: Option<&str>,
        now_us: u64,
        scale: f64,
    ) -> String {
        let id = format!("{}/{:x}", to.0, now_us ^ (self.serial() << 40));
        let until_us = now_us.saturating_add((RESPONSE_US * scale) as u64);
        let response = ResponseUrl {
            team: to.0.to_owned(),
            channel: to.1.to_owned(),
            user: to.2.to_owned(),
            message_ts: message_ts.map(str::to_owned),
            until_us,
            uses: 0,
        };
        self.responses.keep(id.clone(), response);
        id
    }

    /// Whom a response address belongs to.
    pub(super) fn response_to(&self, id: &str) -> Option<ResponseUrl> {
        self.responses.get(id).cloned()
    }

    /// Uses a response address once, or says Slack's word for why not.
    pub(super) fn respond(&mut self, id: &str, now_us: u64) -> Result<ResponseUrl, &'static str> {
        let response = self.responses.get_mut(id).ok_or("no_such_url")?;
        if now_us > response.until_us {
            return Err("expired_url");
        }
        if response.uses >= RESPONSE_USES {
            return Err("used_url");
        }
        response.uses += 1;
        Ok(response.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_differ_within_a_microsecond() {
        let mut world = World::default();
        assert_eq!((world.stamp(1_000_001), world.stamp(1_000_001)), ("1.000001".into(), "1.000002".into()));
    }

    #[test]
    fn triggers_are_exchanged_once_and_in_time() {
        let mut world = World::default();
        let (first, second) = (world.trigger("T", "U", 0), world.trigger("T", "U", 0));
        assert_eq!(world.exchange(&first, TRIGGER_US).unwrap().user, "U");
        assert_eq!(world.exchange(&first, 1).unwrap_err(), "exchanged_trigger_id");
        assert_eq!(world.exchange(&second, TRIGGER_US + 1).unwrap_err(), "expired_trigger_id");
        assert_eq!(world.exchange("x", 0).unwrap_err(), "invalid_trigger_id");
    }

    #[test]
    fn response_addresses_are_used_five_times_in_half_an_hour() {
        let mut world = World::default();
        let id = world.response(("T", "C", "U"), None, 0, 1.0);
        assert!((0..5).all(|_| world.respond(&id, 1_000).is_ok()));
        assert_eq!(world.respond(&id, 1_000).unwrap_err(), "used_url");
        let short = world.response(("T", "C", "U"), None, 0, 0.001);
        assert!(world.respond(&short, 1_800_000).is_ok());
        assert_eq!(world.respond(&short, 1_800_001).unwrap_err(), "expired_url");
    }
}
