//! `chat.*`: posting, changing and removing messages.

use serde_json::{Value, json};

use super::super::blocks::{MAX_MESSAGE_BLOCKS, check};
use super::super::message::{By, Message};
use super::super::world::{Draft, World};
use super::{Answer, Call, Wrong};

/// Characters of a text at most; Slack cuts longer ones off and says so, or refuses them with blocks.
const MAX_TEXT_CHARS: usize = 40_000;
/// Bytes of metadata at most.
const MAX_METADATA_BYTES: usize = 16_384;

/// `chat.postMessage`.
pub(super) fn post(world: &mut World, call: &Call<'_>) -> Answer {
    let message = world.post(draft(world, call, "chat.postMessage", None)?, call.now_us);
    Ok(json!({"channel": message.channel, "ts": message.ts, "message": message.shown(call.team, true)}))
}

/// `chat.postEphemeral`.
pub(super) fn post_ephemeral(world: &mut World, call: &Call<'_>) -> Answer {
    let user = call.args.text("user").ok_or("no_user")?.to_owned();
    let message = world.post(draft(world, call, "chat.postEphemeral", Some(user))?, call.now_us);
    Ok(json!({"channel": message.channel, "message_ts": message.ts}))
}

/// `chat.update`.
pub(super) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let (text, blocks) = content(call)?;
    let metadata = metadata(call)?;
    let message = own(world, call, &channel, "cant_update_message")?;
    if let Some(text) = text {
        message.text = text;
        // Blocks that are not given again go, as in Slack when a text is.
        message.blocks = None;
    }
    if blocks.is_some() {
        message.blocks = blocks;
    }
    if metadata.is_some() {
        message.metadata = metadata;
    }
    (message.edits, message.updated_us) = (message.edits + 1, call.now_us);
    let shown = message.shown(call.team, true);
    Ok(json!({"channel": channel, "ts": message.ts, "text": message.text, "message": shown}))
}

/// `chat.delete`.
pub(super) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let channel = call.channel()?;
    let ts = own(world, call, &channel, "cant_delete_message")?.ts.clone();
    world.remove(&call.team.id, &channel, &ts);
    Ok(json!({"channel": channel, "ts": ts}))
}

/// The message that is named, which the bot must have written.
fn own<'w>(world: &'w mut World, call: &Call<'_>, channel: &str, not_own: &str) -> Result<&'w mut Message, Wrong> {
    let ts = call.args.text("ts").ok_or("message_not_found")?;
    let found = world.message_mut(&call.team.id, channel, ts).filter(|message| message.ephemeral_to.is_none());
    let message = found.ok_or("message_not_found")?;
    if message.by == By::Bot { Ok(message) } else { Err(not_own.into()) }
}

fn draft(world: &World, call: &Call<'_>, via: &'static str, to: Option<String>) -> Result<Draft, Wrong> {
    let channel = call.channel()?;
    let (text, blocks) = content(call)?;
    let thread_ts = call.args.text("thread_ts").map(str::to_owned);
    if let Some(thread) = &thread_ts
        && !world.any_thread
        && world.message(&call.team.id, &channel, thread).is_none()
    {
        return Err("thread_not_found".into());
    }
    Ok(Draft {
        team: call.team.id.clone(),
        channel,
        thread_ts,
        user: call.team.bot_user(),
        by: By::Bot,
        text: text.unwrap_or_default(),
        blocks,
        metadata: metadata(call)?,
        ephemeral_to: to,
        via,
    })
}

/// Text and blocks, of which one must be there.
fn content(call: &Call<'_>) -> Result<(Option<String>, Option<Value>), Wrong> {
    let text = call.args.text("text").map(str::to_owned);
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT_CHARS) {
        return Err("msg_too_long".into());
    }
    let mut blocks = call.args.json("blocks").map_err(|()| Wrong::from("invalid_blocks_format"))?;
    if let Some(blocks) = &mut blocks {
        let wrong = |problem| Wrong { error: "invalid_blocks".into(), messages: vec![format!("[ERROR] {problem}")] };
        check(blocks, MAX_MESSAGE_BLOCKS).map_err(wrong)?;
    }
    let blocks = blocks.filter(|blocks| blocks.as_array().is_some_and(|blocks| !blocks.is_empty()));
    if text.is_none() && blocks.is_none() {
        return Err("no_text".into());
    }
    Ok((text, blocks))
}

fn metadata(call: &Call<'_>) -> Result<Option<Value>, Wrong> {
    let wrong = || Wrong::from("invalid_metadata_format");
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
