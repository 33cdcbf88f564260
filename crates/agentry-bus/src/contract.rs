//! Contract tests of the port, which every backend passes.

use std::sync::Arc;

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::id::TaskId;
use agentry_core::task::{Priority, TaskStatus};

use crate::{EventBus, ReceiveOutcome, Signal, Wake};

fn wake(n: u64, mode: ExecutionMode, priority: Priority) -> Wake {
    Wake { task: TaskId::from_parts(n, u128::from(n) << 64), mode, session: None, priority, body: None }
}

/// A wake reaches exactly one of the competing consumers of its mode, and no other mode.
///
/// # Panics
/// The bus violates this.
pub async fn a_wake_reaches_one_consumer_of_its_mode(bus: Arc<dyn EventBus>) {
    let modes = ModeSet::NONE.with(ExecutionMode::Autonomous);
    let (mut one, mut two) = (bus.wakes(modes), bus.wakes(modes));
    let mut other = bus.wakes(ModeSet::NONE.with(ExecutionMode::Continuous));
    let sent: Vec<_> = (0..100).map(|n| wake(n, ExecutionMode::Autonomous, Priority::Normal)).collect();
    bus.wake(sent);
    bus.wake(vec![wake(1_000, ExecutionMode::Continuous, Priority::Normal)]);
    let mut got = Vec::new();
    while got.len() < 100 {
        let batch = tokio::select! { batch = one.next(7) => batch, batch = two.next(7) => batch };
        assert!(batch.len() <= 7, "a batch is at most as large as asked");
        got.extend(batch.into_iter().map(|wake| wake.task));
    }
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 100, "each exactly once");
    assert_eq!(other.next(10).await.len(), 1, "another mode gets its own only");
}

/// High priorities are taken first; within one priority the order of arrival holds.
///
/// # Panics
/// The bus violates this.
pub async fn priorities_go_first(bus: Arc<dyn EventBus>) {
    let mut wakes = bus.wakes(ModeSet::ALL);
    let of = |n, priority| wake(n, ExecutionMode::Autonomous, priority);
    bus.wake(vec![of(1, Priority::Low), of(2, Priority::Normal), of(3, Priority::High), of(4, Priority::High)]);
    let order: Vec<_> = wakes.next(10).await.into_iter().map(|wake| wake.task).collect();
    let expected: Vec<_> = [3, 4, 2, 1].map(|n| of(n, Priority::Low).task).to_vec();
    assert_eq!(order, expected);
}

/// Signals reach all listeners; signals about one task reach its watchers only, and only while they watch.
///
/// # Panics
/// The bus violates this.
pub async fn signals_reach_listeners_and_watchers(bus: Arc<dyn EventBus>) {
    let task = TaskId::from_parts(1, 1);
    let (mut a, mut b) = (bus.signals(), bus.signals());
    assert!(!bus.is_watched(task));
    let mut watch = bus.watch(task);
    assert!(bus.is_watched(task));
    bus.signal(Signal::Progress { task: TaskId::from_parts(2, 2 << 64), status: TaskStatus::Running });
    bus.signal(Signal::Progress { task, status: TaskStatus::Completed });
    bus.signal(Signal::Cancel(task));
    for listener in [&mut a, &mut b] {
        assert!(matches!(listener.next().await, ReceiveOutcome::Signal(Signal::Cancel(id)) if id == task));
    }
    let heard = watch.next().await;
    assert!(matches!(heard, ReceiveOutcome::Signal(Signal::Progress { task: id, .. }) if id == task), "{heard:?}");
    drop(watch);
    assert!(!bus.is_watched(task));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmbeddedBus;

    fn bus() -> Arc<dyn EventBus> {
        Arc::new(EmbeddedBus::new())
    }

    #[tokio::test]
    async fn embedded_wakes() {
        a_wake_reaches_one_consumer_of_its_mode(bus()).await;
        priorities_go_first(bus()).await;
    }

    #[tokio::test]
    async fn embedded_signals() {
        signals_reach_listeners_and_watchers(bus()).await;
    }

    #[tokio::test]
    async fn a_full_queue_drops_hints_and_says_so() {
        let bus = EmbeddedBus::new();
        let mut wakes = bus.wakes(ModeSet::ALL);
        assert!(!wakes.overflowed());
        bus.wake((0..100_001).map(|n| wake(n, ExecutionMode::Autonomous, Priority::Normal)).collect());
        assert_eq!(bus.depth(), 100_000);
        assert!(wakes.overflowed());
        assert!(!wakes.overflowed(), "reported once");
    }
}
