//! What Slack does with the answer that took a delivery: shows it, or changes a view by it.

use serde_json::{Value, json};

use super::delivery::{Parcel, deliver};
use super::options::Team;
use super::response_url::{Said, apply};
use super::server::App;
use crate::clock::now_us;

/// What is done with the answer that took a delivery.
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// It is shown as a message.
    Show { response_id: String, team: Team },
    /// It says what becomes of a view.
    Apply { view_id: String },
}

/// Delivers something, and does what follows.
pub(super) async fn run(app: App, parcel: Parcel, then: Then) {
    let answer = deliver(&app, &parcel).await;
    app.sim.arrive();
    match (answer, then) {
        (Some(answer), Then::Show { response_id, team }) => show(&app, &answer, &response_id, &team),
        (Some(answer), Then::Apply { view_id }) => apply_to_view(&app, &answer, &view_id),
        _ => {}
    }
    app.sim.changed();
}

/// What a command is answered with at once is shown like what comes by its address, without using that up.
fn show(app: &App, answer: &str, response_id: &str, team: &Team) {
    if answer.trim().is_empty() {
        return;
    }
    // A plain text is shown as it is.
    let said = serde_json::from_str(answer).or_else(|_| serde_json::from_value::<Said>(json!({"text": answer})));
    let mut world = app.sim.world();
    let (Ok(said), Some(to)) = (said, world.response_to(response_id)) else { return };
    let now = now_us();
    let shown = apply(&mut world, &to, said, &team.bot_user(), "command", now);
    drop(world);
    if let Ok(mut line) = shown {
        for (name, value) in
            [("kind", json!("call")), ("method", json!("command_answer")), ("ok", json!(true)), ("t_us", json!(now))]
        {
            line[name] = value;
        }
        app.sim.ledger.write(line, |stats| stats.posts += 1);
    }
}

/// `response_action`: errors, update, push, clear; a view that says nothing closes.
fn apply_to_view(app: &App, answer: &str, view_id: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let mut world = app.sim.world();
    let Some(view) = world.views.get_mut(view_id) else { return };
    match answer["response_action"].as_str() {
        Some("errors") => view.errors = Some(answer["errors"].clone()),
        Some("update" | "push") => (view.view, view.errors) = (answer["view"].clone(), None),
        _ => view.open = false,
    }
}
