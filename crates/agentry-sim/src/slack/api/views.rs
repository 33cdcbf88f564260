//! `views.*`: modals.

use serde_json::{Value, json};

use super::super::blocks::{MAX_VIEW_BLOCKS, check};
use super::super::message::APP_ID;
use super::super::options::Team;
use super::super::workspaces::{View, Workspaces};
use super::{Answer, ApiError, Call};

const MAX_TITLE_CHARS: usize = 24;
const MAX_PRIVATE_CHARS: usize = 3_000;

pub(super) fn open(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let view = given(call)?;
    let trigger = workspaces.exchange(call.args.text("trigger_id").ok_or("invalid_arguments")?, call.now_us)?;
    if trigger.team != call.team.id {
        return Err("invalid_trigger_id".into());
    }
    let id = format!("V{}{:06}", call.now_us, workspaces.next_serial());
    let view = View { id: id.clone(), team: trigger.team, user: trigger.user, view, open: true, errors: None };
    let answer = json!({"view": to_value(&view, call.team)});
    workspaces.views.insert(id, view);
    Ok(answer)
}

pub(super) fn update(workspaces: &mut Workspaces, call: &Call<'_>) -> Answer {
    let new = given(call)?;
    let id = call.args.text("view_id").ok_or("invalid_arguments")?;
    let found = workspaces.views.get_mut(id).filter(|view| view.open && view.team == call.team.id);
    let view = found.ok_or("not_found")?;
    (view.view, view.errors) = (new, None);
    Ok(json!({"view": to_value(view, call.team)}))
}

pub(in super::super) fn to_value(view: &View, team: &Team) -> Value {
    let mut shown = view.view.clone();
    for (name, value) in [
        ("id", json!(view.id)),
        ("team_id", json!(view.team)),
        ("app_id", json!(APP_ID)),
        ("bot_id", json!(team.bot_id())),
        ("root_view_id", json!(view.id)),
        ("previous_view_id", Value::Null),
        ("hash", json!(format!("{}.sim", view.id))),
        ("external_id", view.view.get("external_id").cloned().unwrap_or_else(|| json!(""))),
        ("private_metadata", view.view.get("private_metadata").cloned().unwrap_or_else(|| json!(""))),
        ("callback_id", view.view.get("callback_id").cloned().unwrap_or_else(|| json!(""))),
    ] {
        shown[name] = value;
    }
    if shown["state"].is_null() {
        shown["state"] = json!({"values": {}});
    }
    shown
}

fn given(call: &Call<'_>) -> Result<Value, ApiError> {
    let view = call.args.json("view").map_err(|()| ApiError::from("invalid_arguments"))?.ok_or("invalid_arguments")?;
    checked(view)
        .map_err(|problem| ApiError { error: "invalid_arguments".into(), messages: vec![format!("[ERROR] {problem}")] })
}

fn checked(mut view: Value) -> Result<Value, String> {
    if view["type"] != "modal" {
        return Err("a view must be of type modal [json-pointer:/view/type]".into());
    }
    for field in ["title", "submit", "close"] {
        let text = view[field]["text"].as_str();
        let count = text.map_or(0, |text| text.chars().count());
        if (field == "title" && count == 0) || count > MAX_TITLE_CHARS {
            return Err(format!("must have 1 to {MAX_TITLE_CHARS} characters [json-pointer:/view/{field}]"));
        }
    }
    let has_input = view["blocks"].as_array().is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "input"));
    if has_input && !view["submit"].is_object() {
        return Err("a view with an input must have a submit button [json-pointer:/view]".into());
    }
    if view["private_metadata"].as_str().is_some_and(|text| text.chars().count() > MAX_PRIVATE_CHARS) {
        return Err(format!(
            "must be less than {} characters [json-pointer:/view/private_metadata]",
            MAX_PRIVATE_CHARS + 1
        ));
    }
    check(&mut view["blocks"], MAX_VIEW_BLOCKS)?;
    Ok(view)
}
