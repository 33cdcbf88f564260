//! Claims that take seconds: no claim is lost while it is carried out.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::test_cluster::{PATIENCE, TestCluster};
use crate::wait::until;

/// Tasks that are claimed while claims are slow, one after the other.
const TASKS: usize = 8;
/// Time between two of them.
const BETWEEN: Duration = Duration::from_secs(2);

/// Every claimed row takes four seconds: longer than a dispatcher is waited for.
const SLOW: &str = "
    CREATE FUNCTION agentry.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(4); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE UPDATE ON agentry.open_tasks FOR EACH ROW
        WHEN (OLD.status = 0 AND NEW.status = 1) EXECUTE FUNCTION agentry.wait()";

/// Once claims are fast again everything ends, without a restart of anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_claims_strand_nothing() {
    let cluster = TestCluster::with(&["api", "autonomous-1", "autonomous-2"], &[]).await;
    cluster.rows(SLOW).await;
    for n in 0..TASKS {
        let body = json!({"agent": "clerk", "input": format!("slow claim {n}")});
        let accepted = cluster.http.post(format!("{}/v1/tasks", cluster.api())).json(&body).send().await.unwrap();
        assert!(accepted.status().is_success(), "{}", accepted.status());
        sleep(BETWEEN).await;
    }
    let claimed = "SELECT (SELECT count(*) FROM agentry.ended_tasks) +
                       (SELECT count(*) FROM agentry.open_tasks WHERE status = 1)";
    until("a claim that was slow", PATIENCE, async || (cluster.number(claimed).await > 0).then_some(())).await;
    cluster.rows("DROP TRIGGER slow ON agentry.open_tasks").await;
    let open = "SELECT count(*) FROM agentry.open_tasks";
    until("the end of every task", PATIENCE, async || (cluster.number(open).await == 0).then_some(())).await;
    let recovered = "SELECT count(*) FROM agentry.journal WHERE body::json->>'kind' = 'recovered'";
    assert_eq!(cluster.number(recovered).await, 0, "nobody died");
}
