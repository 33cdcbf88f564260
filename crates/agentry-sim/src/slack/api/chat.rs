//! `chat.*`: posting, changing and removing messages.

use serde_json::{Value, json};

use super::super::blocks::{MAX_MESSAGE_BLOCKS, check};
use super::super::message::{Author, Message};
use super::super::workspaces::Workspaces;
use super::{Answer, ApiError, Call};

/// Largest text, in characters.
const MAX_TEXT_CHARS: usize = 40_000;
const MAX_METADATA_BYTES: usize = 16_384;

pub(super) fn post(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let message = workspaces.post(draft(workspaces, call, "chat.postMessage", None)?, call.now_us);
    Ok(json!({"channel": message.channel, "ts": message.ts, "message": message.to_value(call.team, true)}))
}

pub(super) fn post_ephemeral(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let user = call.args.text("user").ok_or("no_user")?.to_owned();
    let message = workspaces.post(draft(workspaces, call, "chat.postEphemeral", Some(user))?, call.now_us);
    Ok(json!({"channel": message.channel, "message_ts": message.ts}))
}

pub(super) fn update(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let (text, blocks) = content(call)?;
    let metadata = metadata(call)?;
    let message = own(workspaces, call, &channel, "cant_update_message")?;
    if let Some(text) = text {
        message.text = text;
        // A new text removes blocks that are not sent again, as in Slack.
        message.blocks = None;
    }
    if blocks.is_some() {
        message.blocks = blocks;
    }
    if metadata.is_some() {
        message.metadata = metadata;
    }
    (message.edits, message.updated_us) = (message.edits + 1, call.now_us);
    let posted = message.to_value(call.team, true);
    Ok(json!({"channel": channel, "ts": message.ts, "text": message.text, "message": posted}))
}

pub(super) fn delete(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let ts = own(workspaces, call, &channel, "cant_delete_message")?.ts.clone();
    workspaces.remove(&call.team.id, &channel, &ts);
    Ok(json!({"channel": channel, "ts": ts}))
}

/// Returns the named message, which must be the bot's own.
fn own<'w>(
    workspaces: &'w mut Workspaces,
    call: &Call<'_>,
    channel: &str,
    not_own: &str,
) -> Result<&'w mut Message, ApiError> {
    let ts = call.args.text("ts").ok_or("message_not_found")?;
    let found = workspaces.message_mut(&call.team.id, channel, ts).filter(|message| message.ephemeral_to.is_none());
    let message = found.ok_or("message_not_found")?;
    if message.by == Author::Bot { Ok(message) } else { Err(not_own.into()) }
}

fn draft(workspaces: &Workspaces, call: &Call<'_>, via: &'static str, to: Option<String>) -> Result<Message, ApiError> {
    let channel = call.channel()?;
    let (text, blocks) = content(call)?;
    let thread_ts = call.args.text("thread_ts").map(str::to_owned);
    if let Some(thread) = &thread_ts
        && !workspaces.any_thread
        && workspaces.message(&call.team.id, &channel, thread).is_none()
    {
        return Err("thread_not_found".into());
    }
    Ok(Message {
        thread_ts,
        text: text.unwrap_or_default(),
        blocks,
        metadata: metadata(call)?,
        ephemeral_to: to,
        ..Message::new(&call.team.id, &channel, call.team.bot_user(), Author::Bot, via)
    })
}

fn content(call: &Call<'_>) -> Result<(Option<String>, Option<Value>), ApiError> {
    let text = call.args.text("text").map(str::to_owned);
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT_CHARS) {
        return Err("msg_too_long".into());
    }
    let mut blocks = call.args.json("blocks").map_err(|()| ApiError::from("invalid_blocks_format"))?;
    if let Some(blocks) = &mut blocks {
        let wrong = |problem| ApiError { error: "invalid_blocks".into(), messages: vec![format!("[ERROR] {problem}")] };
        check(blocks, MAX_MESSAGE_BLOCKS).map_err(wrong)?;
    }
    let blocks = blocks.filter(|blocks| blocks.as_array().is_some_and(|blocks| !blocks.is_empty()));
    if text.is_none() && blocks.is_none() {
        return Err("no_text".into());
    }
    Ok((text, blocks))
}

fn metadata(call: &Call<'_>) -> Result<Option<Value>, ApiError> {
    let wrong = || ApiError::from("invalid_metadata_format");
    let metadata = call.args.json("metadata").map_err(|()| wrong())?;
    let Some(metadata) = metadata else { return Ok(None) };
    if metadata["event_type"].as_str().is_none_or(str::is_empty) || !metadata["event_payload"].is_object() {
        return Err(wrong());
    }
    if metadata.to_string().len() > MAX_METADATA_BYTES {
        return Err("metadata_too_large".into());
    }
    Ok(Some(metadata))
}
