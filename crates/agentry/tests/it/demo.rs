//! The demo: everything at once, as a stranger's first command.

use std::process::Stdio;

use crate::support::{agentry, json};

#[test]
fn the_demo_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let said = json(folder.path(), &["demo", "-o", "json"]);
    assert_eq!(said["ok"], true, "{said}");
    let mut modes: Vec<&str> =
        said["tasks"].as_array().unwrap().iter().map(|task| task["mode"].as_str().unwrap()).collect();
    modes.sort_unstable();
    assert_eq!(modes, ["autonomous", "collaborative", "continuous", "scheduled"]);
    assert!(said["tasks"].as_array().unwrap().iter().all(|task| task["status"] == "completed"), "{said}");
    assert!(said["schedule"]["slots"].as_u64().unwrap() >= 2, "{said}");
    assert_eq!(said["clarification"]["answer"], "EU");
    assert_eq!(said["crash"]["accepted"], said["crash"]["ended_once"]);
    assert_eq!(said["crash"]["calls_bought_twice"], 0);
    assert_eq!(said["slack"]["posts"], 1, "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the demo leaves nothing behind");
}

/// Its processes share PostgreSQL and RabbitMQ, one of them is killed, and nothing is left on the servers.
#[test]
fn the_demo_runs_on_the_cluster_engine() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = agentry(folder.path());
    demo.args(["demo", "--engine", "cluster", "-o", "json"]);
    for server in ["POSTGRES", "RABBITMQ", "REDIS"] {
        if let Ok(url) = std::env::var(format!("AGENTRY_TEST_{server}_URL")) {
            demo.env(format!("AGENTRY_{server}_URL"), url);
        }
    }
    let child = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let own = format!("agentry_demo_{}", child.id());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is every server there? `cargo xtask services` finds or starts them\n{told}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], true, "{said}");
    assert!(said["tasks"].as_array().unwrap().iter().all(|task| task["status"] == "completed"), "{said}");
    assert_eq!(said["crash"]["accepted"], said["crash"]["ended_once"], "{said}");
    assert_eq!(said["crash"]["calls_bought_twice"], 0, "{said}");
    let left = tokio::runtime::Runtime::new().unwrap().block_on(left_on_servers(&own));
    assert_eq!(left, (0, false), "schemas and the queue of events that the demo left");
}

/// Schemas of this name, and whether its queue of foreign events is there.
async fn left_on_servers(own: &str) -> (i64, bool) {
    let url = |server: &str, usual: &str| {
        std::env::var(format!("AGENTRY_TEST_{server}_URL")).unwrap_or_else(|_| usual.to_owned())
    };
    let postgres = url("POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres");
    let (client, connection) = tokio_postgres::connect(&postgres, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let schemas = client.query_one("SELECT count(*) FROM pg_namespace WHERE nspname = $1", &[&own]).await.unwrap();
    let rabbitmq = url("RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let connection = lapin::Connection::connect(&rabbitmq, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let look = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(format!("{own}.inbound").into(), look, lapin::types::FieldTable::default()).await;
    (schemas.get(0), queue.is_ok())
}
