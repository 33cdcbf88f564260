//! `/v1/schedules`.

use agentry_bus::{EventBus as _, ReceiveOutcome, Signal};
use agentry_core::agent::AgentName;
use agentry_store::ScheduleStore as _;
use serde_json::json;

use crate::support::{NOW, Reply, Server};

#[tokio::test]
async fn a_schedule_is_made_shown_changed_paused_and_deleted() {
    let server = Server::new().await;
    let mut signals = server.bus.signals();
    let body = r#"{"name":"daily","agent":"triage","cron":"0 9 * * *","timezone":"Europe/Berlin","input":"go"}"#;
    let made = server.post("/v1/schedules", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "/v1/schedules/daily");
    assert!(matches!(signals.next().await, ReceiveOutcome::Signal(Signal::Schedules)));
    // 10:00 in Berlin now: the next slots are tomorrow's and on.
    assert_eq!(made.json()["next_slots"][0], "2026-11-24T08:00:00.000000Z");
    assert_eq!(made.json()["next_slots"].as_array().unwrap().len(), 5);

    let twice = server.post("/v1/schedules", body).await;
    assert_eq!((twice.status.as_u16(), twice.json()["code"].clone()), (409, json!("schedule_exists")));
    let changed = server.call("PATCH", "/v1/schedules/daily", &[], r#"{"timezone":"UTC","overlap":"allow_all"}"#).await;
    assert_eq!(changed.json()["next_slots"][0], "2026-11-24T09:00:00.000000Z", "{}", changed.text);
    assert_eq!(changed.json()["spec"]["overlap"], "allow_all");
    assert_eq!(changed.json()["spec"]["input"], "go");

    let paused = server.call("PATCH", "/v1/schedules/daily", &[], r#"{"paused":true}"#).await.json();
    assert_eq!((&paused["paused"], &paused["next_slots"]), (&json!(true), &json!([])));
    let resumed = server.call("PATCH", "/v1/schedules/daily", &[], r#"{"paused":false}"#).await.json();
    assert_eq!(resumed["paused"], false);
    assert_eq!(server.get("/v1/schedules").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v1/schedules/daily").await.json()["last_slots"], json!([]));
    assert_eq!(server.delete("/v1/schedules/daily").await.status, 204);
    assert_eq!(server.delete("/v1/schedules/daily").await.status, 404);
}

#[tokio::test]
async fn a_trigger_accepts_a_task_now_even_when_paused() {
    let server = Server::new().await;
    let body =
        r#"{"name":"s","agent":"triage","interval_seconds":60,"task_data":{"n":1},"timeout_seconds":9,"paused":true}"#;
    assert_eq!(server.post("/v1/schedules", body).await.status, 201);
    let reply = server.post("/v1/schedules/s/trigger", "").await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let task = server.get(reply.header("location")).await.json();
    assert_eq!((&task["input"], &task["timeout_seconds"]), (&json!({"n": 1}), &json!(9.0)));
    assert_eq!(task["source"]["kind"], "api");
    assert_eq!(server.post("/v1/schedules/nope/trigger", "").await.status, 404);
}

#[tokio::test]
async fn a_schedule_of_a_file_can_only_be_paused() {
    let server = Server::new().await;
    let body = r#"{"name":"s","agent":"triage","interval_seconds":60}"#;
    server.post("/v1/schedules", body).await;
    let mut record = server.store.schedules(None, 1).await.unwrap().items.remove(0);
    (record.name, record.from_file, record.created_at) = ("filed".to_owned(), true, NOW);
    server.store.put_schedules(vec![record]).await.unwrap();
    for reply in [
        server.call("PATCH", "/v1/schedules/filed", &[], r#"{"interval_seconds":5}"#).await,
        server.delete("/v1/schedules/filed").await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (409, json!("schedule_from_file")));
    }
    let paused = server.call("PATCH", "/v1/schedules/filed", &[], r#"{"paused":true}"#).await;
    assert_eq!(paused.json()["paused"], true, "{}", paused.text);
}

#[tokio::test]
async fn timings_that_cannot_be_are_refused_at_their_field() {
    let server = Server::new().await;
    for (timing, pointer) in [
        (r#""cron":"0 0 30 2 *""#, "/cron"),
        (r#""cron":"0 9 * * *","timezone":"Mars/Olympus""#, "/timezone"),
        (r#""interval_seconds":0.5"#, "/interval_seconds"),
        (r#""interval_seconds":5,"cron":"0 9 * * *""#, "/interval_seconds"),
        (r#""timezone":"UTC""#, "/timezone"),
        (r#""enabled":true"#, "/cron"),
    ] {
        let reply = server.post("/v1/schedules", format!(r#"{{"name":"s","agent":"triage",{timing}}}"#)).await;
        assert_eq!(reply.status, 422, "{timing}");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{timing}: {}", reply.text);
    }
}

const HOURLY: &str = r#"{"name":"hourly","agent":"triage","cron":"0 * * * *","input":"go","paused":true}"#;

async fn backfill(server: &Server, body: &str) -> Reply {
    server.post("/v1/schedules/hourly/backfill", body.to_owned()).await
}

#[tokio::test]
async fn a_backfill_fires_each_slot_of_the_range_once() {
    let server = Server::new().await;
    server.post("/v1/schedules", HOURLY).await;
    // It is 09:00: six slots from 04:00 to 09:00, both ends taken.
    let morning = r#"{"from":"2026-11-23T04:00:00Z","to":"2026-11-23T09:00:00Z""#;
    let counted = backfill(&server, &format!(r#"{morning},"dry_run":true}}"#)).await;
    let of = |reply: &Reply| {
        let reply = reply.json();
        ["slots", "fired", "already_decided"].map(|field| reply[field].as_u64().unwrap())
    };
    assert_eq!(of(&counted), [6, 6, 0], "{}", counted.text);
    assert_eq!(server.get("/v1/tasks").await.json()["items"], json!([]), "a dry run does nothing");
    assert_eq!(of(&backfill(&server, &format!("{morning}}}")).await), [6, 6, 0]);
    assert_eq!(of(&backfill(&server, &format!("{morning}}}")).await), [6, 0, 6]);
    let tasks = server.get("/v1/tasks").await.json()["items"].as_array().unwrap().clone();
    let mut slots: Vec<&str> = tasks.iter().map(|task| task["source"]["slot"].as_str().unwrap()).collect();
    slots.sort_unstable();
    assert_eq!((slots.len(), slots[0], slots[5]), (6, "2026-11-23T04:00:00.000000Z", "2026-11-23T09:00:00.000000Z"));
    let shown = server.get("/v1/schedules/hourly").await.json();
    assert_eq!((&shown["last_slot"], &shown["last_slots"][0]["state"]), (&json!(null), &json!("fired")));
}

#[tokio::test]
async fn a_backfill_that_cannot_be_says_why_and_fires_nothing() {
    let server = Server::new().await;
    server.post("/v1/schedules", HOURLY).await;
    let to_now = r#""to":"2026-11-23T09:00:00Z""#;
    for (body, pointer, words) in [
        (r#""from":"2026-11-23","to":"2026-11-22""#.to_owned(), "/to", "is before `from`"),
        (r#""from":"2026-11-23","to":"2026-11-24""#.to_owned(), "/to", "is in the future"),
        (format!(r#""from":"yesterday",{to_now}"#), "/from", "is not a time"),
        (format!(r#""from":"2026-10-01",{to_now}"#), "/from", "older than slots are kept (30.0 days"),
        (format!(r#""from":"2026-11-22","limit":33,{to_now}"#), "/limit", "more than 33 slots"),
        (format!(r#""from":"2026-11-22","limit":10001,{to_now}"#), "/limit", "use 1 to 10000"),
    ] {
        let reply = backfill(&server, &format!("{{{body}}}")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}");
        assert!(reply.text.contains(words), "{body}: {}", reply.text);
    }
    assert_eq!(backfill(&server, &format!(r#"{{"from":"2026-11-22","limit":34,{to_now}}}"#)).await.json()["fired"], 34);
    let mut record = server.store.schedules(None, 1).await.unwrap().items.remove(0);
    (record.name, record.agent) = ("orphan".to_owned(), AgentName::new("deleted").unwrap());
    server.store.put_schedules(vec![record]).await.unwrap();
    let range = format!(r#"{{"from":"2026-11-23",{to_now}}}"#);
    let orphan = server.post("/v1/schedules/orphan/backfill", range.clone()).await;
    assert_eq!((orphan.status.as_u16(), &orphan.json()["code"]), (404, &json!("unknown_agent")), "{}", orphan.text);
    let orphan = server.post("/v1/schedules/orphan/trigger", "").await;
    assert_eq!((orphan.status.as_u16(), &orphan.json()["code"]), (404, &json!("unknown_agent")), "{}", orphan.text);
    let unknown = server.post("/v1/schedules/hurly/backfill", range).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["code"]), (404, &json!("unknown_schedule")));
    assert_eq!(server.get("/v1/tasks?limit=100").await.json()["items"].as_array().unwrap().len(), 34);
}

#[tokio::test]
async fn as_many_next_slots_are_shown_as_asked_for() {
    let server = Server::new().await;
    server.post("/v1/schedules", HOURLY.replace("true", "false")).await;
    let next = async |query: &str| server.get(&format!("/v1/schedules/hourly{query}")).await;
    assert_eq!(next("").await.json()["next_slots"].as_array().unwrap().len(), 5);
    assert_eq!(next("?next=12").await.json()["next_slots"][11], "2026-11-23T21:00:00.000000Z");
    assert_eq!(next("?next=101").await.status, 422);
}

#[tokio::test]
async fn schedules_are_listed_in_pages() {
    let server = Server::new().await;
    for name in ["c", "a", "b"] {
        let body = format!(r#"{{"name":"{name}","agent":"triage","interval_seconds":60}}"#);
        assert_eq!(server.post("/v1/schedules", body).await.status, 201);
    }
    let names = |page: &Reply| {
        let page = page.json();
        page["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = server.get("/v1/schedules?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    let last = server.get(&format!("/v1/schedules?limit=2&cursor={cursor}")).await;
    assert_eq!((names(&last), &last.json()["next_cursor"]), (vec!["c".to_owned()], &json!(null)));
    assert_eq!(server.get("/v1/schedules?cursor=%20").await.status, 422);
}
