//! Restarts and scaling as an operator does them: asked to end, every process ends its tasks or gives them back.

use std::time::Duration;

use agentry_lab::Signal;

use crate::deployment::MEMBERS;
use crate::invariants::entries;
use crate::judge::Record;
use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

/// How long a process may take to end: its drain, and what comes after.
const ENDS: Duration = Duration::from_secs(30);
/// The workers that are there beside the first two for a while.
const SURPLUS: [&str; 3] = ["autonomous-3", "autonomous-4", "autonomous-5"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_and_a_scale_down_lose_nothing_and_repeat_nothing() {
    let mut cluster = TestCluster::open(&[]).await;
    cluster.load().await;
    for name in MEMBERS {
        restart(&mut cluster, name).await;
    }
    scale_up_and_down(&mut cluster).await;
    nothing_was_repeated(&cluster.judge().await);
}

async fn restart(cluster: &mut TestCluster, name: &str) {
    cluster.fault(&format!("restart {name}"));
    if let "autonomous-1" | "autonomous-2" | "continuous" | "collaborative" = name {
        let worker = cluster.worker(name).await;
        cluster.busy(&worker, 1).await;
    }
    let at = now();
    end(cluster, &[name]).await;
    cluster.start(&[name]).await;
    cluster.rate_is_back(&format!("restart of {name}"), at).await;
}

/// SIGTERM to all of these, and each ends well.
async fn end(cluster: &mut TestCluster, names: &[&str]) {
    for name in names {
        cluster.deployment.process(name).signal(Signal::TERM).unwrap();
    }
    for name in names {
        let status = cluster.deployment.ended(name, ENDS).await;
        let tail = cluster.deployment.process(name).tail();
        assert!(status.success(), "{name} did not end well ({status}):\n{tail}");
    }
}

async fn scale_up_and_down(cluster: &mut TestCluster) {
    cluster.fault("five workers");
    let at = now();
    cluster.start(&SURPLUS).await;
    let mut workers = Vec::new();
    for name in SURPLUS {
        workers.push(cluster.worker(name).await);
    }
    for worker in &workers {
        let sql = format!("SELECT count(*) FROM agentry.ended_tasks WHERE owner = '{worker}'");
        until("each of five workers to have its share", PATIENCE, async || {
            (cluster.number(&sql).await >= 10).then_some(())
        })
        .await;
    }
    cluster.rate_is_back("scale-up from 2 to 5 workers", at).await;
    cluster.fault("two workers");
    for worker in &workers {
        cluster.busy(worker, 1).await;
    }
    let at = now();
    end(cluster, &SURPLUS).await;
    cluster.rate_is_back("scale-down from 5 to 2 workers", at).await;
}

/// Nobody died, so nothing was recovered, and every call that was begun was answered and written.
fn nothing_was_repeated(record: &Record) {
    for task in &record.journals {
        let count = |kind| entries(task, kind).count();
        assert_eq!(count("recovered"), 0, "recovered from a process that had ended well: {task}");
        assert_eq!(count("model_started"), count("model_completed"), "a call was repeated: {task}");
    }
}
