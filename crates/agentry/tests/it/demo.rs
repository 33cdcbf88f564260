//! The demo: everything at once, as a stranger's first command.

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
    assert!(said["slack"].is_null());
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
    let output = demo.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is every server there? `cargo xtask services` finds or starts them\n{told}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], true, "{said}");
    assert!(said["tasks"].as_array().unwrap().iter().all(|task| task["status"] == "completed"), "{said}");
    assert_eq!(said["crash"]["accepted"], said["crash"]["ended_once"], "{said}");
    assert_eq!(said["crash"]["calls_bought_twice"], 0, "{said}");
}
