//! State of the simulated workspaces: messages, views, triggers and response addresses. It decides and never waits.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use serde_json::Value;

use super::fault::FaultRule;
use super::message::Message;
use super::rates::Rates;

/// Messages kept per channel; the oldest are dropped.
const MAX_MESSAGES: usize = 20_000;
/// Triggers, response addresses and views kept of each kind; the oldest are dropped.
const MAX_KEPT: usize = 20_000;
/// Lifetime of a trigger, in microseconds.
const TRIGGER_US: u64 = 3_000_000;
/// Lifetime of a response address, in microseconds.
const RESPONSE_US: f64 = 30.0 * 60.0 * 1e6;
const RESPONSE_USES: u32 = 5;
const SECOND_US: u64 = 1_000_000;

/// A right to open one view.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) team: String,
    pub(super) user: String,
    until_us: u64,
    is_used: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ResponseUrl {
    pub(super) team: String,
    pub(super) channel: String,
    pub(super) user: String,
    pub(super) message_ts: Option<String>,
    until_us: u64,
    uses: u32,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) team: String,
    pub(super) user: String,
    pub(super) view: Value,
    pub(super) open: bool,
    /// Errors of the last submission, by block.
    pub(super) errors: Option<Value>,
}

/// A map that drops its oldest entry when it is full.
#[derive(Debug)]
pub(super) struct RecentMap<T> {
    entries: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for RecentMap<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> RecentMap<T> {
    pub(super) fn insert(&mut self, key: String, entry: T) {
        if self.order.len() >= MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.entries.insert(key, entry);
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|key| self.entries.get(key))
    }
}

#[derive(Debug, Default)]
pub(super) struct Workspaces {
    channels: HashMap<(String, String), VecDeque<Message>>,
    last_us: u64,
    serial: u64,
    triggers: RecentMap<Trigger>,
    responses: RecentMap<ResponseUrl>,
    pub(super) views: RecentMap<View>,
    pub(super) rates: Rates,
    pub(super) faults: Vec<FaultRule>,
    pub(super) target: Option<String>,
    /// Accepts threads that do not exist; see [`super::SlackOptions::any_thread`].
    pub(super) any_thread: bool,
}

impl Workspaces {
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn next_timestamp(&mut self, now_us: u64) -> String {
        self.last_us = now_us.max(self.last_us + 1);
        format!("{}.{:06}", self.last_us / SECOND_US, self.last_us % SECOND_US)
    }

    /// Posts a message, which gets its id and its time here.
    pub(super) fn post(&mut self, mut message: Message, now_us: u64) -> Message {
        message.ts = self.next_timestamp(now_us);
        (message.posted_us, message.updated_us) = (now_us, now_us);
        let channel = self.channels.entry((message.team.clone(), message.channel.clone())).or_default();
        if channel.len() >= MAX_MESSAGES {
            channel.pop_front();
        }
        channel.push_back(message.clone());
        message
    }

    pub(super) fn channel(&self, team: &str, channel: &str) -> impl DoubleEndedIterator<Item = &Message> {
        self.channels.get(&(team.to_owned(), channel.to_owned())).into_iter().flatten()
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.channels.values().flatten()
    }

    pub(super) fn message(&self, team: &str, channel: &str, ts: &str) -> Option<&Message> {
        // Searches from the end, because recent messages are asked for most.
        self.channel(team, channel).rev().find(|message| message.ts == ts)
    }

    pub(super) fn message_mut(&mut self, team: &str, channel: &str, ts: &str) -> Option<&mut Message> {
        self.channels.get_mut(&(team.to_owned(), channel.to_owned()))?.iter_mut().rev().find(|message| message.ts == ts)
    }

    /// Removes a message; returns true when it existed.
    pub(super) fn remove(&mut self, team: &str, channel: &str, ts: &str) -> bool {
        let Some(messages) = self.channels.get_mut(&(team.to_owned(), channel.to_owned())) else { return false };
        let before = messages.len();
        messages.retain(|message| message.ts != ts);
        messages.len() < before
    }

    pub(super) fn trigger(&mut self, team: &str, user: &str, now_us: u64) -> String {
        let id = format!("{}.{}.sim", now_us, self.next_serial());
        let (team, user) = (team.to_owned(), user.to_owned());
        self.triggers.insert(id.clone(), Trigger { team, user, until_us: now_us + TRIGGER_US, is_used: false });
        id
    }

    /// Exchanges a trigger, or returns Slack's error code.
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

    /// Creates a response address; `scale` multiplies its lifetime.
    pub(super) fn response(
        &mut self,
        to: (&str, &str, &str),
        message_ts: Option<&str>,
        now_us: u64,
        scale: f64,
    ) -> String {
        let id = format!("{}/{:x}", to.0, now_us ^ (self.next_serial() << 40));
        let until_us = now_us.saturating_add((RESPONSE_US * scale) as u64);
        let response = ResponseUrl {
            team: to.0.to_owned(),
            channel: to.1.to_owned(),
            user: to.2.to_owned(),
            message_ts: message_ts.map(str::to_owned),
            until_us,
            uses: 0,
        };
        self.responses.insert(id.clone(), response);
        id
    }

    /// Returns the owner of a response address.
    pub(super) fn response_to(&self, id: &str) -> Option<ResponseUrl> {
        self.responses.get(id).cloned()
    }

    /// Uses a response address once, or returns Slack's error code.
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
        let mut workspaces = Workspaces::default();
        assert_eq!(
            (workspaces.next_timestamp(1_000_001), workspaces.next_timestamp(1_000_001)),
            ("1.000001".into(), "1.000002".into())
        );
    }

    #[test]
    fn triggers_are_exchanged_once_and_in_time() {
        let mut workspaces = Workspaces::default();
        let (first, second) = (workspaces.trigger("T", "U", 0), workspaces.trigger("T", "U", 0));
        assert_eq!(workspaces.exchange(&first, TRIGGER_US).unwrap().user, "U");
        assert_eq!(workspaces.exchange(&first, 1).unwrap_err(), "exchanged_trigger_id");
        assert_eq!(workspaces.exchange(&second, TRIGGER_US + 1).unwrap_err(), "expired_trigger_id");
        assert_eq!(workspaces.exchange("x", 0).unwrap_err(), "invalid_trigger_id");
    }

    #[test]
    fn response_addresses_are_used_five_times_in_half_an_hour() {
        let mut workspaces = Workspaces::default();
        let id = workspaces.response(("T", "C", "U"), None, 0, 1.0);
        assert!((0..5).all(|_| workspaces.respond(&id, 1_000).is_ok()));
        assert_eq!(workspaces.respond(&id, 1_000).unwrap_err(), "used_url");
        let short = workspaces.response(("T", "C", "U"), None, 0, 0.001);
        assert!(workspaces.respond(&short, 1_800_000).is_ok());
        assert_eq!(workspaces.respond(&short, 1_800_001).unwrap_err(), "expired_url");
    }
}
