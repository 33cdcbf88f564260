//! Slack's validation of Block Kit, and the payload of a click on a block.

use serde_json::{Value, json};

pub(super) const MAX_MESSAGE_BLOCKS: usize = 50;
pub(super) const MAX_VIEW_BLOCKS: usize = 100;
const MAX_SECTION_CHARS: usize = 3_000;
const MAX_HEADER_CHARS: usize = 150;
const MAX_MARKDOWN_CHARS: usize = 12_000;
const MAX_LABEL_CHARS: usize = 75;
const MAX_VALUE_CHARS: usize = 2_000;
const MAX_ID_CHARS: usize = 255;
const MAX_ACTIONS: usize = 25;
const MAX_CONTEXT: usize = 10;
const TYPES: [&str; 12] = [
    "section",
    "divider",
    "header",
    "actions",
    "context",
    "image",
    "input",
    "rich_text",
    "markdown",
    "file",
    "video",
    "table",
];

/// Validates blocks and adds missing ids.
pub(super) fn check(blocks: &mut Value, most: usize) -> Result<(), String> {
    let Some(blocks) = blocks.as_array_mut() else { return Err("must be an array [json-pointer:/blocks]".into()) };
    if blocks.len() > most {
        return Err(format!("no more than {most} items allowed [json-pointer:/blocks]"));
    }
    let mut ids: Vec<String> = Vec::new();
    let mut markdown = 0;
    for (index, block) in blocks.iter_mut().enumerate() {
        let at = format!("[json-pointer:/blocks/{index}]");
        check_block(block).map_err(|problem| format!("{problem} {at}"))?;
        if block["type"] == "markdown" {
            markdown += chars(&block["text"]);
        }
        if block["block_id"].is_null() {
            block["block_id"] = json!(format!("sim{index}"));
        }
        let id = block["block_id"].as_str().unwrap_or_default().to_owned();
        if id.chars().count() > MAX_ID_CHARS {
            return Err(format!("must be less than {} characters {at}", MAX_ID_CHARS + 1));
        }
        if ids.contains(&id) {
            return Err(format!("`block_id` {id} already exists {at}"));
        }
        ids.push(id);
    }
    if markdown > MAX_MARKDOWN_CHARS {
        return Err(format!("markdown blocks have more than {MAX_MARKDOWN_CHARS} characters together"));
    }
    Ok(())
}

fn check_block(block: &mut Value) -> Result<(), String> {
    let kind = block["type"].as_str().unwrap_or_default().to_owned();
    if !TYPES.contains(&kind.as_str()) {
        return Err(format!("unsupported type: {kind}"));
    }
    match kind.as_str() {
        "section" => {
            if block["text"].is_null() && block["fields"].is_null() {
                return Err("missing required field: text".into());
            }
            if !block["text"].is_null() {
                text(&block["text"], MAX_SECTION_CHARS)?;
            }
            if block.get("accessory").is_some() {
                element(&mut block["accessory"])?;
            }
            Ok(())
        }
        "header" if block["text"]["type"] != "plain_text" => Err("a header's text must be plain_text".into()),
        "header" => text(&block["text"], MAX_HEADER_CHARS),
        "markdown" if chars(&block["text"]) == 0 => Err("missing required field: text".into()),
        "actions" | "context" => {
            let most = if kind == "actions" { MAX_ACTIONS } else { MAX_CONTEXT };
            let elements = block["elements"].as_array_mut().filter(|elements| !elements.is_empty());
            let elements = elements.ok_or_else(|| "missing required field: elements".to_owned())?;
            if elements.len() > most {
                return Err(format!("no more than {most} items allowed"));
            }
            if kind == "context" {
                return Ok(());
            }
            elements.iter_mut().try_for_each(element)
        }
        "input" => {
            text(&block["label"], MAX_SECTION_CHARS)?;
            element(&mut block["element"])
        }
        _ => Ok(()),
    }
}

/// Validates an interactive element and adds a missing id.
fn element(element: &mut Value) -> Result<(), String> {
    if !element.is_object() {
        return Err("missing required field: element".into());
    }
    if element["type"] == "button" {
        if element["text"]["type"] != "plain_text" {
            return Err("a button's text must be plain_text".into());
        }
        text(&element["text"], MAX_LABEL_CHARS)?;
        if chars(&element["value"]) > MAX_VALUE_CHARS {
            return Err(format!("a button's value must be less than {} characters", MAX_VALUE_CHARS + 1));
        }
    }
    if chars(&element["action_id"]) > MAX_ID_CHARS {
        return Err(format!("action_id must be less than {} characters", MAX_ID_CHARS + 1));
    }
    if element["action_id"].is_null() {
        element["action_id"] = json!("sim-action");
    }
    Ok(())
}

fn text(text: &Value, most: usize) -> Result<(), String> {
    if !matches!(text["type"].as_str(), Some("plain_text" | "mrkdwn")) {
        return Err("a text must be an object of type plain_text or mrkdwn".into());
    }
    match chars(&text["text"]) {
        0 => Err("must be more than 0 characters".into()),
        count if count > most => Err(format!("must be less than {} characters", most + 1)),
        _ => Ok(()),
    }
}

fn chars(text: &Value) -> usize {
    text.as_str().map_or(0, |text| text.chars().count())
}

/// Finds the element with this id, and with this value when one is given, and its block.
pub(super) fn find<'b>(blocks: &'b Value, action_id: &str, value: Option<&str>) -> Option<(&'b Value, &'b Value)> {
    let fits = |element: &&Value| {
        element["action_id"] == action_id
            && (value.is_none() || element["value"] == json!(value) || !option(element, value).is_null())
    };
    blocks.as_array()?.iter().find_map(|block| {
        let listed = block["elements"].as_array().into_iter().flatten();
        let single = [&block["accessory"], &block["element"]];
        listed.chain(single).find(fits).map(|element| (block, element))
    })
}

/// Returns the menu option with this value; null when there is none.
fn option<'b>(element: &'b Value, value: Option<&str>) -> &'b Value {
    let options = element["options"].as_array().into_iter().flatten();
    options.into_iter().find(|option| option["value"] == json!(value)).unwrap_or(&Value::Null)
}

/// Returns the entry of `actions` for a click on an element.
pub(super) fn action(block: &Value, element: &Value, value: Option<&str>, action_ts: &str) -> Value {
    let mut action = json!({
        "type": element["type"],
        "action_id": element["action_id"],
        "block_id": block["block_id"],
        "action_ts": action_ts,
    });
    let option = option(element, value);
    if option.is_null() {
        action["text"] = element["text"].clone();
        for field in ["value", "style"].into_iter().filter(|field| !element[*field].is_null()) {
            action[field] = element[field].clone();
        }
    } else {
        action["selected_option"] = option.clone();
    }
    action
}

/// Returns the entry of `state.values` for a filled field of a modal.
pub(super) fn filled(element: &Value, value: &str) -> Value {
    let option = option(element, Some(value));
    if option.is_null() {
        return json!({"type": element["type"].as_str().unwrap_or("plain_text_input"), "value": value});
    }
    json!({"type": element["type"], "selected_option": option})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn button(id: &str, value: &str) -> Value {
        json!({"type": "button", "action_id": id, "value": value, "text": {"type": "plain_text", "text": "Go"}})
    }

    #[test]
    fn what_slack_refuses_is_refused() {
        let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
        for (blocks, problem) in [
            (json!({}), "must be an array"),
            (json!(vec![json!({"type": "divider"}); 51]), "no more than 50"),
            (json!([{"type": "dance"}]), "unsupported type: dance"),
            (json!([section("")]), "more than 0"),
            (json!([section(&"x".repeat(3_001))]), "less than 3001"),
            (json!([{"type": "section"}]), "missing required field: text"),
            (json!([{"type": "actions", "elements": []}]), "elements"),
            (json!([{"type": "actions", "elements": [button("a", &"x".repeat(2_001))]}]), "less than 2001"),
            (json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]), "already exists"),
            (json!([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]), "plain_text"),
        ] {
            let refused = check(&mut blocks.clone(), MAX_MESSAGE_BLOCKS).expect_err(problem);
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn a_click_finds_its_button_also_by_value() {
        let mut blocks = json!([{"type": "actions", "elements": [button("pick", "eu"), button("pick", "us")]}]);
        check(&mut blocks, MAX_MESSAGE_BLOCKS).unwrap();
        let (block, element) = find(&blocks, "pick", Some("us")).unwrap();
        let action = action(block, element, Some("us"), "1.2");
        assert_eq!((&action["value"], &action["block_id"]), (&json!("us"), &json!("sim0")));
        assert!(find(&blocks, "pick", Some("asia")).is_none() && find(&blocks, "other", None).is_none());
    }
}
