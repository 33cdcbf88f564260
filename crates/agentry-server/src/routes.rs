//! The table of routes, from which the router is built; a test compares the OpenAPI document with it.

use agentry_core::worker::Role;
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use crate::api::{
    agents, backfill, batch, bench, clarifications, dead_letters, deployment, events, health, heap, keys, log, me,
    overview, page, profile, schedules, scrape, sessions, tasks, usage, validate, workers,
};
use crate::slack;
use crate::state::AppState;
use crate::ui;

/// One route template.
pub(crate) struct Route {
    /// The template, with parameters in braces.
    pub(crate) path: &'static str,
    /// The methods and their handlers.
    pub(crate) methods: Vec<(&'static str, MethodRouter<AppState>)>,
    /// True if the limit of requests in flight applies; probes and scrapes are exempt.
    pub(crate) bounded: bool,
    /// The role of the processes that serve it; `None` means all.
    role: Option<Role>,
}

fn route(path: &'static str, methods: Vec<(&'static str, MethodRouter<AppState>)>) -> Route {
    Route { path, methods, bounded: true, role: Some(Role::Api) }
}

/// Returns a route that Slack calls.
fn slack_route(path: &'static str, handler: MethodRouter<AppState>) -> Route {
    Route { role: Some(Role::Slack), ..route(path, vec![("POST", handler)]) }
}

fn probe(path: &'static str, handler: MethodRouter<AppState>) -> Route {
    Route { path, methods: vec![("GET", handler)], bounded: false, role: None }
}

/// Returns the routes of a process with these roles.
pub(crate) fn of_roles(roles: &[Role]) -> Vec<Route> {
    table().into_iter().filter(|route| route.role.is_none_or(|role| roles.contains(&role))).collect()
}

/// Returns every route.
pub(crate) fn table() -> Vec<Route> {
    vec![
        route("/v1/tasks", vec![("POST", post(tasks::create)), ("GET", get(tasks::list))]),
        route("/v1/tasks/batch", vec![("POST", post(batch::create))]),
        route("/v1/tasks/{id}", vec![("GET", get(tasks::get))]),
        route("/v1/tasks/{id}/events", vec![("GET", get(tasks::events))]),
        route("/v1/tasks/{id}/cancel", vec![("POST", post(tasks::cancel))]),
        route("/v1/agents", vec![("GET", get(agents::list))]),
        route("/v1/agents/{name}", vec![("GET", get(agents::get)), ("DELETE", delete(deployment::remove))]),
        route("/v1/agents/{name}/activate", vec![("POST", post(deployment::activate))]),
        route("/v1/agents/validate", vec![("POST", post(validate::validate))]),
        route("/v1/sessions", vec![("GET", get(sessions::list))]),
        route("/v1/sessions/{id}", vec![("GET", get(sessions::get)), ("DELETE", delete(sessions::delete))]),
        route("/v1/schedules", vec![("GET", get(schedules::list)), ("POST", post(schedules::create))]),
        route(
            "/v1/schedules/{name}",
            vec![
                ("GET", get(schedules::get)),
                ("PATCH", patch(schedules::change)),
                ("DELETE", delete(schedules::delete)),
            ],
        ),
        route("/v1/schedules/{name}/backfill", vec![("POST", post(backfill::backfill))]),
        route("/v1/schedules/{name}/trigger", vec![("POST", post(schedules::trigger))]),
        route("/v1/clarifications", vec![("GET", get(clarifications::list))]),
        route("/v1/clarifications/{id}/answer", vec![("POST", post(clarifications::answer))]),
        route("/v1/dead-letters", vec![("GET", get(dead_letters::list))]),
        route(
            "/v1/dead-letters/{id}",
            vec![
                ("GET", get(dead_letters::get)),
                ("PATCH", patch(dead_letters::edit)),
                ("DELETE", delete(dead_letters::delete)),
            ],
        ),
        route("/v1/dead-letters/{id}/replay", vec![("POST", post(dead_letters::replay))]),
        route("/v1/events", vec![("POST", post(events::publish)), ("GET", get(events::tail))]),
        route("/v1/usage", vec![("GET", get(usage::get))]),
        route("/v1/usage/calls", vec![("GET", get(usage::calls))]),
        route("/v1/workers", vec![("GET", get(workers::list))]),
        probe("/health/live", get(health::live)),
        probe("/health/ready", get(health::ready)),
        probe("/metrics", get(scrape::metrics)),
        probe("/debug/pprof/profile", get(profile::profile)),
        probe("/debug/pprof/heap", get(heap::heap)),
        slack_route("/slack/events", post(slack::events::events)),
        slack_route("/slack/commands", post(slack::commands::commands)),
        slack_route("/slack/interactive", post(slack::interactive::interactive)),
        Route { role: Some(Role::Api), ..probe("/openapi.json", get(page::document)) },
        // Every process has its own log.
        Route { role: None, ..route("/v1/log", vec![("GET", get(log::get)), ("PUT", put(log::put))]) },
        route("/v1/me", vec![("GET", get(me::get))]),
        route("/v1/sign-in", vec![("POST", post(me::sign_in))]),
        route("/v1/sign-out", vec![("POST", post(me::sign_out))]),
        route("/v1/keys", vec![("GET", get(keys::list)), ("POST", post(keys::create))]),
        route("/v1/keys/{id}", vec![("DELETE", delete(keys::revoke))]),
        route("/v1/keys/{id}/rotate", vec![("POST", post(keys::rotate))]),
        route("/v1/audit", vec![("GET", get(keys::audit))]),
        route("/v1/bench/reports", vec![("GET", get(bench::list))]),
        route("/bench/{name}", vec![("GET", get(bench::get))]),
        route("/v1/overview", vec![("GET", get(overview::get))]),
        route("/v1/overview/events", vec![("GET", get(overview::events))]),
        route("/", vec![("GET", get(ui::index))]),
        route("/ui/{file}", vec![("GET", get(ui::file))]),
    ]
}
