//! `conversations.*`: looking messages up.

use serde_json::{Value, json};

use super::super::message::Message;
use super::super::workspaces::Workspaces;
use super::{Answer, Call};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// `conversations.history`: newest first, without replies.
pub(super) fn history(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let top = |message: &&Message| message.thread_ts.as_ref().is_none_or(|thread| *thread == message.ts);
    let found: Vec<&Message> = workspaces.channel(&call.team.id, &channel).rev().filter(top).collect();
    Ok(page(workspaces, call, &channel, found))
}

/// `conversations.replies`: a message and its replies, oldest first.
pub(super) fn replies(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let ts = call.args.text("ts").ok_or("thread_not_found")?;
    let thread = match workspaces.message(&call.team.id, &channel, ts) {
        Some(parent) => parent.thread_ts.clone().unwrap_or_else(|| parent.ts.clone()),
        None if workspaces.any_thread => ts.to_owned(),
        None => return Err("thread_not_found".into()),
    };
    let within = |message: &&Message| message.ts == thread || message.thread_ts.as_ref() == Some(&thread);
    let found: Vec<&Message> = workspaces.channel(&call.team.id, &channel).filter(within).collect();
    Ok(page(workspaces, call, &channel, found))
}

pub(super) fn info(call: &Call<'_>) -> Answer {
    let id = call.channel()?;
    let is_im = id.starts_with('D');
    Ok(json!({"channel": {"id": id, "name": name(&id), "is_channel": id.starts_with('C'), "is_im": is_im,
        "is_member": true, "is_archived": false}}))
}

pub(in super::super) fn name(id: &str) -> String {
    if id.starts_with('D') { "directmessage".into() } else { id.to_ascii_lowercase() }
}

/// Returns one page of messages between `oldest` and `latest`.
fn page(workspaces: &Workspaces, call: &Call<'_>, channel: &str, messages: Vec<&Message>) -> Value {
    let args = call.args;
    let (oldest, latest, inclusive) = (args.text("oldest"), args.text("latest"), args.flag("inclusive"));
    let within = |message: &&&Message| {
        let ts = message.ts.as_str();
        message.ephemeral_to.is_none()
            && oldest.is_none_or(|oldest| later(ts, oldest) || (inclusive && ts == oldest))
            && latest.is_none_or(|latest| later(latest, ts) || (inclusive && ts == latest))
    };
    let limit = args.number("limit").unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let start: usize = args.text("cursor").and_then(|cursor| cursor.strip_prefix("at:")?.parse().ok()).unwrap_or(0);
    let all: Vec<_> = messages.iter().filter(within).collect();
    let end = all.len().min(start.saturating_add(limit));
    let with_metadata = args.flag("include_all_metadata");
    let value = |message: &&&Message| {
        let mut value = message.to_value(call.team, with_metadata);
        let is_reply = |other: &&Message| other.ts != message.ts && other.thread_ts.as_ref() == Some(&message.ts);
        let replies = workspaces.channel(&call.team.id, channel).filter(is_reply).count();
        if replies > 0 {
            (value["thread_ts"], value["reply_count"]) = (json!(message.ts), json!(replies));
        }
        value
    };
    let messages: Vec<Value> = all.get(start..end).unwrap_or_default().iter().map(value).collect();
    let has_more = end < all.len();
    let cursor = if has_more { format!("at:{end}") } else { String::new() };
    json!({"messages": messages, "has_more": has_more, "response_metadata": {"next_cursor": cursor}})
}

fn later(one: &str, other: &str) -> bool {
    let parts = |ts: &str| {
        let (seconds, micros) = ts.split_once('.').unwrap_or((ts, ""));
        (seconds.parse::<u64>().unwrap_or(0), format!("{micros:0<6}"))
    };
    parts(one) > parts(other)
}

#[cfg(test)]
mod tests {
    use super::later;

    #[test]
    fn time_stamps_are_ordered_as_numbers() {
        assert!(later("10.000001", "9.9") && later("9.1", "9.000002") && !later("9.5", "9.500000"));
    }
}
