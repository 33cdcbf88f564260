//! The Slack simulator over its sockets, for callers that send the events themselves.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use agentry_sim::slack::{SlackOptions, SlackSim};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Posts into a thread that does not exist here, then reads its replies.
async fn in_a_foreign_thread(any_thread: bool) -> (Value, Value) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api", listener.local_addr().unwrap());
    let (simulator, end) =
        (SlackSim::new(SlackOptions { any_thread, ..SlackOptions::default() }).unwrap(), CancellationToken::new());
    let serving = tokio::spawn({
        let end = end.clone();
        async move { simulator.serve(listener, end).await }
    });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = async |method: &str, body: Value| -> Value {
        let request = client.post(format!("{base}/{method}")).bearer_auth("xoxb-sim").json(&body);
        request.send().await.unwrap().json().await.unwrap()
    };
    let thread = "1795578550.724791";
    let post = json!({"channel": "C0GENERAL", "thread_ts": thread, "text": "hi"});
    let posted = call("chat.postMessage", post).await;
    let replies = call("conversations.replies", json!({"channel": "C0GENERAL", "ts": thread})).await;
    end.cancel();
    serving.await.unwrap().unwrap();
    (posted, replies)
}

#[tokio::test]
async fn a_thread_that_nobody_began_is_not_there() {
    let (posted, replies) = in_a_foreign_thread(false).await;
    assert_eq!((&posted["error"], &replies["error"]), (&json!("thread_not_found"), &json!("thread_not_found")));
}

#[tokio::test]
async fn a_thread_that_somebody_else_began_is_taken_when_asked_for() {
    let (posted, replies) = in_a_foreign_thread(true).await;
    assert_eq!(posted["ok"], true, "{posted}");
    assert_eq!(replies["messages"][0]["ts"], posted["ts"], "{replies}");
}
