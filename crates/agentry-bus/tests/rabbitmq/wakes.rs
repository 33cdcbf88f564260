use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentry_bus::{EventBus, Wake};
use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::session::SessionId;
use agentry_core::task::Task;
use tokio::task::JoinSet;

use crate::support::{eventually, foreign, state_of, wake, wakes_flow, with_names, within};

const AUTONOMOUS: ExecutionMode = ExecutionMode::Autonomous;

fn autonomous() -> ModeSet {
    ModeSet::NONE.with(AUTONOMOUS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wake_reaches_one_of_the_processes() {
    with_names(|names| async move {
        let (sender, one, two) = (names.bus().await, names.bus().await, names.bus().await);
        let (mut first, mut second) = (one.wakes(autonomous()), two.wakes(autonomous()));
        names.consumers(2).await;
        sender.wake((0..500).map(wake).collect());
        let (mut by_first, mut by_second) = (Vec::new(), Vec::new());
        within("all wakes", async {
            while by_first.len() + by_second.len() < 500 {
                tokio::select! {
                    batch = first.next(20) => by_first.extend(batch.into_iter().map(|wake| wake.task)),
                    batch = second.next(20) => by_second.extend(batch.into_iter().map(|wake| wake.task)),
                }
            }
        })
        .await;
        assert!(!by_first.is_empty() && !by_second.is_empty(), "both have a share");
        let all: HashSet<_> = by_first.iter().chain(&by_second).collect();
        assert_eq!(all.len(), 500, "each exactly once");
        assert!(!first.overflowed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_content_of_a_wake_arrives() {
    with_names(|names| async move {
        let (sender, worker) = (names.bus().await, names.bus().await);
        let mut wakes = worker.wakes(ModeSet::ALL);
        let json = serde_json::json!({
            "id": wake(1).task, "agent": "support", "mode": "continuous", "input": "hello", "session": "support:42",
            "priority": "high", "source": {"kind": "api"}, "trace_id": "0000000000000000000000000000000a",
            "created_at": "2026-01-01T00:00:00Z", "timeout_ms": 1_000,
        });
        let task: Arc<Task> = Arc::new(serde_json::from_value(json).unwrap());
        sender.wake(vec![Wake::of(Arc::clone(&task))]);
        let got = within("the wake", wakes.next(1)).await.remove(0);
        assert_eq!((got.task, got.mode, got.session), (task.id, task.mode, SessionId::parse("support:42")));
        assert_eq!(got.body, Some(task));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_equal_workers_get_equal_shares() {
    with_names(|names| async move {
        const WORKERS: usize = 5;
        const TASKS: usize = 3_000;
        const PLACES: usize = 16;
        let total = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (bus, total) = (names.bus().await, Arc::clone(&total));
            workers.spawn(async move {
                let mut wakes = bus.wakes(autonomous());
                let mut mine = 0;
                // Workers of equal size process equal tasks in rounds; an idle worker checks whether all is done.
                while total.load(Ordering::SeqCst) < TASKS {
                    let idle = Duration::from_millis(100);
                    let Ok(batch) = tokio::time::timeout(idle, wakes.next(PLACES)).await else { continue };
                    mine += batch.len();
                    total.fetch_add(batch.len(), Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                mine
            });
        }
        names.consumers(5).await;
        let sender = names.bus().await;
        for chunk in (0..TASKS as u64).collect::<Vec<_>>().chunks(100) {
            sender.wake(chunk.iter().copied().map(wake).collect());
        }
        let shares = within("all tasks", workers.join_all()).await;
        assert_eq!(shares.iter().sum::<usize>(), TASKS);
        let mean = TASKS / WORKERS;
        let worst = shares.iter().map(|share| share.abs_diff(mean)).max().unwrap();
        assert!(worst * 10 <= mean, "{shares:?}: the largest deviation is {worst} of {mean}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_free_slots_leaves_wakes_to_others() {
    with_names(|names| async move {
        let (sender, full) = (names.bus().await, names.bus().await);
        let _never_asks = full.wakes(autonomous());
        names.consumers(1).await;
        sender.wake((0..1_000).map(wake).collect());
        // Two messages of up to 16 wakes from each of two queues.
        eventually("the full worker has its prefetch", async || full.depth() > 0).await;
        let free = names.bus().await;
        let mut wakes = free.wakes(autonomous());
        let mut got = HashSet::new();
        within("the others' share", async {
            while got.len() < 1_000 - 64 {
                got.extend(wakes.next(64).await.into_iter().map(|wake| wake.task));
            }
        })
        .await;
        assert!(full.depth() <= 64, "{}", full.depth());
        // The wakes that the full worker holds return when it closes.
        within("the end", full.close()).await;
        within("the rest", async {
            while got.len() < 1_000 {
                got.extend(wakes.next(64).await.into_iter().map(|wake| wake.task));
            }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_leaves_releases_its_mode() {
    with_names(|names| async move {
        let (sender, worker) = (names.bus().await, names.bus().await);
        let leaving = worker.wakes(autonomous());
        names.consumers(1).await;
        sender.wake(vec![wake(1)]);
        eventually("it has arrived", async || worker.depth() == 1).await;
        drop(leaving);
        names.consumers(0).await;
        let (_connection, channel) = foreign().await;
        let (zero, one) = (names.name("wake.autonomous.0"), names.name("wake.autonomous.1"));
        eventually("it is back in its queue", async || {
            state_of(&channel, &zero).await.0 + state_of(&channel, &one).await.0 == 1
        })
        .await;
        let mut wakes = worker.wakes(autonomous());
        assert_eq!(within("it comes again", wakes.next(10)).await[0].task, wake(1).task);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_comes_back() {
    with_names(|names| async move {
        let (sender, worker) = (names.bus().await, names.bus().await);
        let mut wakes = worker.wakes(autonomous());
        names.consumers(1).await;
        let (_connection, channel) = foreign().await;
        names.delete_queue(&channel, "wake.autonomous.0").await;
        names.delete_queue(&channel, "wake.autonomous.1").await;
        eventually("the worker notices", async || worker.status().reconnects > 0 && worker.status().connected).await;
        wakes_flow(&sender, &mut wakes, 7).await;
        assert!(wakes.overflowed(), "wakes may have been lost");
        assert!(!wakes.overflowed(), "reported once");
    })
    .await;
}
