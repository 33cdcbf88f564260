//! Effects of the app's acknowledgement: Slack shows it, or changes a view by it.

use serde_json::{Value, json};

use super::delivery::{Callback, deliver};
use super::options::Team;
use super::response_url::{ResponsePayload, apply};
use super::server::App;
use crate::clock::now_us;

pub(super) enum FollowUp {
    Nothing,
    Show { response_id: String, team: Team },
    Apply { view_id: String },
}

pub(super) async fn run(app: App, callback: Callback, then: FollowUp) {
    let answer = deliver(&app, &callback).await;
    app.sim.release_delivery();
    match (answer, then) {
        (Some(answer), FollowUp::Show { response_id, team }) => show(&app, &answer, &response_id, &team),
        (Some(answer), FollowUp::Apply { view_id }) => apply_to_view(&app, &answer, &view_id),
        _ => {}
    }
    app.sim.changed();
}

/// Shows the immediate answer to a command like a post to its `response_url`, without counting as a use of that.
fn show(app: &App, answer: &str, response_id: &str, team: &Team) {
    if answer.trim().is_empty() {
        return;
    }
    // Plain text is posted unchanged.
    let payload =
        serde_json::from_str(answer).or_else(|_| serde_json::from_value::<ResponsePayload>(json!({"text": answer})));
    let mut workspaces = app.sim.workspaces();
    let (Ok(payload), Some(to)) = (payload, workspaces.response_to(response_id)) else { return };
    let now = now_us();
    let posted = apply(&mut workspaces, &to, payload, &team.bot_user(), "command", now);
    drop(workspaces);
    if let Ok(mut line) = posted {
        for (name, value) in
            [("kind", json!("call")), ("method", json!("command_answer")), ("ok", json!(true)), ("t_us", json!(now))]
        {
            line[name] = value;
        }
        app.sim.ledger.write(line, |stats| stats.posts += 1);
    }
}

/// Applies `response_action`: errors, update, push or clear. A view without one closes.
fn apply_to_view(app: &App, answer: &str, view_id: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let mut workspaces = app.sim.workspaces();
    let Some(view) = workspaces.views.get_mut(view_id) else { return };
    match answer["response_action"].as_str() {
        Some("errors") => view.errors = Some(answer["errors"].clone()),
        Some("update" | "push") => (view.view, view.errors) = (answer["view"].clone(), None),
        _ => view.open = false,
    }
}
