//! `/v1/log`: the filter of log lines, for good, for a time, and refused.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn the_filter_is_shown_and_set() {
    let server = Server::new().await;
    assert_eq!(server.get("/v1/log").await.json(), json!({"filter": "info"}));
    let set = |body: &'static str| server.call("PUT", "/v1/log", &[], body);
    let for_a_time = set(r#"{"filter":"info,agentry_bus=debug","for_seconds":600}"#).await;
    let expected = json!({"filter": "info,agentry_bus=debug", "then": "info", "remaining_seconds": 600});
    assert_eq!((for_a_time.status.as_u16(), for_a_time.json()), (200, expected));
    assert_eq!(set(r#"{"filter":"warn"}"#).await.json(), json!({"filter": "warn"}));
    let audit = server.get("/v1/audit").await.json();
    assert_eq!((&audit["items"][0]["action"], &audit["items"][0]["status"]), (&json!("PUT /v1/log"), &json!(200)));
}

#[tokio::test]
async fn what_is_no_filter_changes_nothing_and_is_named() {
    let server = Server::new().await;
    let bad = server.call("PUT", "/v1/log", &[], r#"{"filter":"loud"}"#).await;
    let problem = bad.json();
    assert_eq!((bad.status.as_u16(), &problem["code"]), (400, &json!("bad_log_filter")));
    assert_eq!(problem["errors"], json!([{"pointer": "/filter", "detail": "`loud` at column 1: expected a level"}]));
    for wrong in
        [r#"{"filter":"info","for_seconds":0}"#, r#"{"filter":"info","for_seconds":86401}"#, r#"{"fliter":"info"}"#]
    {
        assert_eq!(server.call("PUT", "/v1/log", &[], wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(server.get("/v1/log").await.json(), json!({"filter": "info"}));
}
