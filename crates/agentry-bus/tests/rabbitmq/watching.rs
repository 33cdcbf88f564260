use std::time::Duration;

use agentry_bus::{EventBus, ReceiveOutcome, Signal, Signals};
use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::task::TaskStatus;

use crate::support::{event, eventually, with_names, within};

/// Returns the next signal other than [`ReceiveOutcome::Missed`].
async fn next(signals: &mut Box<dyn Signals>) -> Signal {
    within("a signal", async {
        loop {
            match signals.next().await {
                ReceiveOutcome::Signal(signal) => return signal,
                ReceiveOutcome::Missed => {}
                ReceiveOutcome::Closed => panic!("the bus is closed"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_receives_a_signal_once() {
    with_names(|names| async move {
        let (one, two) = (names.bus().await, names.bus().await);
        let (mut own, mut other) = (one.signals(), two.signals());
        let task = TaskId::from_parts(1, 1 << 64);
        one.signal(Signal::Cancel(task));
        one.signal(Signal::Agent(AgentName::new("writer").unwrap()));
        one.signal(Signal::Schedules);
        for signals in [&mut own, &mut other] {
            assert!(matches!(next(signals).await, Signal::Cancel(id) if id == task));
            assert!(matches!(next(signals).await, Signal::Agent(name) if name.as_str() == "writer"));
            assert!(matches!(next(signals).await, Signal::Schedules));
        }
        // A signal of the other process arrives after everything that could still be on its way back to the sender.
        two.signal(Signal::Resolved(task));
        assert!(matches!(next(&mut own).await, Signal::Resolved(_)), "its own signals did not come twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_in_another_process_receives_progress_and_deltas() {
    with_names(|names| async move {
        let (api, worker) = (names.bus().await, names.bus().await);
        let (task, other) = (TaskId::from_parts(1, 1 << 64), TaskId::from_parts(2, 2 << 64));
        assert!(!worker.is_watched(task));
        let mut watch = api.watch(task);
        // The watcher's queue is not bound before: the watcher is notified to read the store, and after that misses
        // nothing.
        assert!(matches!(within("the binding", watch.next()).await, ReceiveOutcome::Missed));
        eventually("the worker knows", async || worker.is_watched(task)).await;
        worker.signal(Signal::Progress { task: other, status: TaskStatus::Running });
        worker.signal(Signal::Delta { task, text: "grüß".into() });
        worker.signal(Signal::Progress { task, status: TaskStatus::Completed });
        assert!(matches!(next(&mut watch).await, Signal::Delta { text, .. } if &*text == "grüß"));
        assert!(matches!(next(&mut watch).await, Signal::Progress { status: TaskStatus::Completed, .. }));
        let second = api.watch(task);
        drop(watch);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(worker.is_watched(task), "another watcher is there");
        drop(second);
        eventually("the worker knows that nobody watches", async || !worker.is_watched(task)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_hears_events_of_other_processes_once() {
    with_names(|names| async move {
        let (one, two) = (names.bus().await, names.bus().await);
        let mut tail = one.tail();
        // The binding takes a moment: earlier events are in the store.
        let mut number = 0;
        within("the first event", async {
            loop {
                two.publish(&event(&format!("warm-up {number}"))).await.unwrap();
                number += 1;
                if tokio::time::timeout(Duration::from_millis(100), tail.next()).await.is_ok() {
                    return;
                }
            }
        })
        .await;
        one.publish(&event("own")).await.unwrap();
        two.publish(&event("other")).await.unwrap();
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != "other") {
            if let Signal::Event(event) = next(&mut tail).await
                && !event.id.starts_with("warm-up")
            {
                ids.push(event.id.clone());
            }
        }
        assert_eq!(ids, ["own", "other"], "each once");
    })
    .await;
}
