//! Batching of wakes into messages, and the choice of their queue.

use agentry_core::agent::ExecutionMode;
use agentry_core::session::SessionId;

use crate::port::Wake;

/// Largest number of wakes per message. The broker hands whole messages to workers in turn, so this is the grain of
/// fairness: 3,000 wakes are 188 messages, 37 or 38 for each of five workers.
pub(super) const MAX_BATCH: usize = 16;
/// Smallest number of wakes per message, when there are as many: smaller messages would cost more than they even out.
const MIN_BATCH: usize = 4;
/// Number of messages that a burst is split into before messages grow.
const SPREAD: usize = 8;

#[derive(Debug)]
pub(super) struct Batch {
    pub mode: ExecutionMode,
    pub shard: u16,
    pub wakes: Vec<Wake>,
}

impl Batch {
    /// Returns the message priority: that of its most urgent wake.
    pub fn priority(&self) -> u8 {
        self.wakes.iter().map(|wake| wake.priority as u8).max().unwrap_or_default()
    }
}

/// Distributes wakes over queues and messages: those of a session always to the same queue, the others round-robin.
/// `turn` is the round-robin position, which is kept between calls.
pub(super) fn split(wakes: Vec<Wake>, shards: u16, turn: &mut u16) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut by_mode: [Vec<Wake>; 4] = Default::default();
    for wake in wakes {
        by_mode[wake.mode as usize].push(wake);
    }
    for (mode, wakes) in ExecutionMode::ALL.into_iter().zip(by_mode) {
        let (bound, mut free): (Vec<_>, Vec<_>) = wakes.into_iter().partition(|wake| wake.session.is_some());
        let size = free.len().div_ceil(SPREAD).clamp(MIN_BATCH, MAX_BATCH);
        // Urgent wakes share messages; the sort is stable, so the order of arrival holds within a priority.
        free.sort_by_key(|wake| std::cmp::Reverse(wake.priority));
        for wakes in chunks(free, size) {
            *turn = (*turn + 1) % shards;
            batches.push(Batch { mode, shard: *turn, wakes });
        }
        for shard in 0..shards {
            let of_shard =
                |wake: &&Wake| wake.session.as_ref().is_some_and(|session| shard_of(session, shards) == shard);
            let mut wakes: Vec<_> = bound.iter().filter(of_shard).cloned().collect();
            wakes.sort_by_key(|wake| std::cmp::Reverse(wake.priority));
            batches.extend(chunks(wakes, MAX_BATCH).map(|wakes| Batch { mode, shard, wakes }));
        }
    }
    batches
}

fn chunks(wakes: Vec<Wake>, size: usize) -> impl Iterator<Item = Vec<Wake>> {
    let mut rest = wakes.into_iter();
    std::iter::from_fn(move || Some(rest.by_ref().take(size).collect::<Vec<_>>()).filter(|chunk| !chunk.is_empty()))
}

/// Returns the queue of a session by FNV-1a. The hash must be the same in every process and version, which the hashers
/// of the standard library and of `rand` do not promise.
fn shard_of(session: &SessionId, shards: u16) -> u16 {
    let hash = session
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    u16::try_from(hash % u64::from(shards)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use agentry_core::id::TaskId;
    use agentry_core::task::Priority;

    use super::*;

    fn wake(n: u64, priority: Priority) -> Wake {
        let task = TaskId::from_parts(n, 0);
        Wake { task, mode: ExecutionMode::Autonomous, session: None, priority, body: None }
    }

    fn many(count: u64) -> Vec<Wake> {
        (0..count).map(|n| wake(n, Priority::Normal)).collect()
    }

    #[test]
    fn few_wakes_share_a_message_and_many_are_spread() {
        let sizes = |count| -> Vec<usize> { split(many(count), 2, &mut 0).iter().map(|b| b.wakes.len()).collect() };
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(4), [4]);
        assert_eq!(sizes(20), [4, 4, 4, 4, 4]);
        assert_eq!(sizes(80), [10; 8]);
        assert_eq!(sizes(3_000).len(), 188);
    }

    #[test]
    fn shards_take_turns_over_calls() {
        let mut turn = 0;
        let shards: Vec<_> = (0..4).flat_map(|_| split(many(1), 3, &mut turn)).map(|batch| batch.shard).collect();
        assert_eq!(shards, [1, 2, 0, 1]);
    }

    #[test]
    fn the_urgent_ones_go_first_and_nothing_is_lost() {
        let mut wakes = many(40);
        wakes.extend([wake(100, Priority::Low), wake(101, Priority::High), wake(102, Priority::High)]);
        let batches = split(wakes, 2, &mut 0);
        assert_eq!((batches[0].priority(), batches[1].priority()), (2, 1));
        assert_eq!(batches[0].wakes[0].task, TaskId::from_parts(101, 0));
        assert_eq!(batches[0].wakes[1].task, TaskId::from_parts(102, 0));
        let all: HashSet<_> = batches.iter().flat_map(|batch| &batch.wakes).map(|wake| wake.task).collect();
        assert_eq!(all.len(), 43);
    }

    #[test]
    fn a_session_keeps_its_queue() {
        let in_session = |n: u64| {
            let session = SessionId::parse(&format!("support:{}", n % 10));
            Wake { mode: ExecutionMode::Continuous, session, ..wake(n, Priority::Normal) }
        };
        let batches = split((0..100).map(in_session).collect(), 4, &mut 0);
        let mut queues: HashSet<(String, u16)> = HashSet::new();
        for batch in &batches {
            queues.extend(batch.wakes.iter().filter_map(|w| Some((w.session.as_ref()?.to_string(), batch.shard))));
        }
        assert_eq!(queues.len(), 10, "one queue for each session");
        assert_eq!(batches.iter().map(|batch| batch.wakes.len()).sum::<usize>(), 100);
    }
}
