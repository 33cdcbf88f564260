//! One trace from ingress on: the same id in problem, audit log and task, and the caller's span above the task.

use agentry_core::id::TaskId;
use agentry_core::trace::{Parent, Sampling};
use agentry_server::{ServerDeps, router};

use crate::support::{Reply, Server};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TASK: &str = r#"{"agent":"triage","input":"hi"}"#;

/// A server with this sampling.
async fn server(sampling: Sampling) -> Server {
    let mut server = Server::new().await;
    server.deps = ServerDeps { sampling, ..server.deps.clone() };
    server.router = router(server.deps.clone());
    server
}

async fn parent_of(server: &Server, reply: &Reply) -> Option<Parent> {
    let id: TaskId = reply.json()["id"].as_str().expect("an id").parse().expect("an id");
    server.deps.store.task(id).await.expect("the store").expect("the task").task.parent
}

#[tokio::test]
async fn a_request_has_one_trace_whether_the_caller_brings_it_or_not() {
    let server = Server::new().await;
    let problem = server.post("/v1/schedules/gone/trigger", "").await.json();
    let audit = server.get("/v1/audit").await.json();
    assert_eq!(audit["items"][0]["action"], "POST /v1/schedules/{name}/trigger");
    assert_eq!(audit["items"][0]["trace_id"], problem["trace_id"]);
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let problem = server.call("DELETE", "/v1/schedules/gone", &[("traceparent", &traceparent)], "").await.json();
    let audit = server.get("/v1/audit").await.json();
    assert_eq!((&problem["trace_id"], &audit["items"][0]["trace_id"]), (&TRACE.into(), &TRACE.into()));
}

#[tokio::test]
async fn a_task_hangs_under_the_span_of_its_request_where_there_is_one() {
    for (sampling, flag, between) in [
        (Sampling::Off, "01", false),
        (Sampling::Off, "00", false),
        (Sampling::ALL, "00", false),
        (Sampling::ALL, "01", true),
    ] {
        let server = server(sampling).await;
        let traceparent = format!("00-{TRACE}-b7ad6b7169203331-{flag}");
        let reply = server.call("POST", "/v1/tasks", &[("traceparent", &traceparent)], TASK).await;
        assert_eq!(reply.json()["trace_id"], TRACE);
        let parent = parent_of(&server, &reply).await.expect("a parent");
        assert_eq!(parent.sampled, flag == "01", "{sampling:?} {flag}");
        assert_eq!(parent.span.to_string() != "b7ad6b7169203331", between, "{sampling:?} {flag}");
    }
}

#[tokio::test]
async fn what_begins_here_is_kept_or_not_for_the_whole_trace() {
    let none = Sampling::On { share: 0, follows_parent: true };
    for (sampling, expected) in [(Sampling::Off, None), (Sampling::ALL, Some(true)), (none, Some(false))] {
        let server = server(sampling).await;
        let reply = server.post("/v1/tasks", TASK).await;
        assert_eq!(parent_of(&server, &reply).await.map(|parent| parent.sampled), expected, "{sampling:?}");
    }
}
