//! What a process answers by its roles, and by what it can do without.

use std::sync::Arc;

use agentry_core::worker::Role;
use agentry_server::{Dependency, DependencyMetric, DependencyState, router};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::Server;

/// Status and body of a `GET` on a server with these roles and dependencies.
async fn get(server: &Server, roles: &[Role], dependencies: Vec<Dependency>, path: &str) -> (u16, String) {
    let deps = agentry_server::ServerDeps { roles: roles.to_vec(), dependencies, ..server.deps.clone() };
    let response = router(deps).oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn broker(up: bool) -> Dependency {
    let metric = DependencyMetric { name: "agentry_bus_reconnects", help: "Reconnects.", is_counter: true, value: 3.0 };
    let state = DependencyState { up, detail: "not connected".to_owned(), metrics: vec![metric] };
    Dependency { name: "bus", probe: Arc::new(move || state.clone()) }
}

#[tokio::test]
async fn a_process_without_the_role_api_answers_probes_and_says_who_answers_the_rest() {
    let server = Server::new().await;
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(get(&server, &[Role::Worker], Vec::new(), path).await.0, 200, "{path}");
    }
    for path in ["/v1/tasks", "/v1/agents", "/openapi.json", "/"] {
        let (status, body) = get(&server, &[Role::Scheduler, Role::Worker], Vec::new(), path).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &problem["code"]), (404, &json!("route_not_found")), "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("role `api`") && detail.contains("scheduler, worker"), "{detail}");
    }
    assert_eq!(get(&server, &[Role::Api], Vec::new(), "/v1/tasks").await.0, 200);
}

#[tokio::test]
async fn without_its_broker_a_process_is_degraded_and_takes_requests() {
    let server = Server::new().await;
    let (status, body) = get(&server, &Role::ALL, vec![broker(false)], "/health/ready").await;
    let ready: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &ready["status"]), (200, &json!("degraded")), "{body}");
    assert_eq!(ready["checks"]["bus"], json!({"ok": false, "required": false, "detail": "not connected"}));
    let (_, text) = get(&server, &Role::ALL, vec![broker(false)], "/metrics").await;
    for line in [
        "agentry_dependency_up{dependency=\"store\"} 1",
        "agentry_dependency_up{dependency=\"bus\"} 0",
        "# TYPE agentry_bus_reconnects_total counter",
        "agentry_bus_reconnects_total 3.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let (status, body) = get(&server, &Role::ALL, vec![broker(true)], "/health/ready").await;
    assert!(status == 200 && body.contains("\"status\":\"ready\""), "{body}");
}

/// An API process accepts tasks for workers that start later; a worker must be alive.
#[tokio::test]
async fn dead_workers_are_required_only_where_tasks_are_executed() {
    let server = Server::new().await;
    server.clock.advance(60);
    let of = async |roles: &[Role]| get(&server, roles, Vec::new(), "/health/ready").await.0;
    assert_eq!((of(&[Role::Api]).await, of(&[Role::Worker]).await), (200, 503));
    let (_, agents) = get(&server, &[Role::Api], Vec::new(), "/v1/agents/triage").await;
    let agent: Value = serde_json::from_str(&agents).unwrap();
    assert_eq!(agent["status"], "starting");
    assert_eq!(agent["reason"], "no worker executes autonomous agents now");
}
