//! Topics that nobody outside was bound to a moment ago, as their returned events said.
//!
//! The client library gives a returned message to any of the publications that one confirm settles. So a return counts
//! for the topic that the message itself names, never for that of the publication it came with.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::listeners::lock;

/// How long a return counts: the second that the port promises, less what a return takes on its way.
const COUNTS: Duration = Duration::from_millis(900);
/// Topics at most; the oldest make room, and their next events are published though nobody hears them.
const MAX_TOPICS: usize = 10_000;

/// What came back lately.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    since: HashMap<String, Instant>,
    /// In the order of time. What was forgotten meanwhile stays until its time is over.
    order: VecDeque<(Instant, String)>,
}

impl Unheard {
    /// An event on this topic came back.
    pub fn returned(&self, topic: &str, now: Instant) {
        let mut known = lock(&self.known);
        known.tidy(now);
        // A further return does not make it last: one event must go out in every second.
        if !known.since.contains_key(topic) {
            known.since.insert(topic.to_owned(), now);
            known.order.push_back((now, topic.to_owned()));
        }
    }

    /// An event on this topic, whose publication began at `began`, found a queue.
    pub fn routed(&self, topic: &str, began: Instant) {
        let mut known = lock(&self.known);
        if known.since.get(topic).is_some_and(|since| *since < began) {
            known.since.remove(topic);
        }
    }

    /// Whether an event on this topic may find somebody.
    pub fn is_heard(&self, topic: &str, now: Instant) -> bool {
        lock(&self.known).since.get(topic).is_none_or(|since| now.duration_since(*since) >= COUNTS)
    }
}

impl Known {
    fn tidy(&mut self, now: Instant) {
        let over = |at: Instant, len: usize| now.duration_since(at) >= COUNTS || len >= MAX_TOPICS;
        while self.order.front().is_some_and(|(at, _)| over(*at, self.order.len())) {
            if let Some((at, topic)) = self.order.pop_front()
                && self.since.get(&topic) == Some(&at)
            {
                self.since.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_return_counts_for_less_than_a_second_and_is_not_prolonged() {
        let (unheard, now) = (Unheard::default(), Instant::now());
        assert!(unheard.is_heard("a", now));
        unheard.returned("a", now);
        unheard.returned("a", now + COUNTS / 2);
        assert!(!unheard.is_heard("a", now + COUNTS - TICK) && unheard.is_heard("b", now));
        assert!(unheard.is_heard("a", now + COUNTS));
        unheard.returned("a", now + COUNTS);
        assert!(!unheard.is_heard("a", now + COUNTS + TICK), "the next probe says it again");
    }

    #[test]
    fn an_event_that_found_a_queue_clears_its_topic_unless_it_left_before_the_return() {
        let (unheard, now) = (Unheard::default(), Instant::now());
        unheard.returned("a", now + TICK);
        unheard.routed("a", now);
        assert!(!unheard.is_heard("a", now + TICK));
        unheard.routed("a", now + 2 * TICK);
        assert!(unheard.is_heard("a", now + 2 * TICK));
        // What was cleared and came again is not dropped with what it was before.
        unheard.returned("a", now + 3 * TICK);
        unheard.returned("b", now + COUNTS + TICK);
        assert!(!unheard.is_heard("a", now + COUNTS + TICK));
    }

    #[test]
    fn the_oldest_topics_make_room() {
        let (unheard, now) = (Unheard::default(), Instant::now());
        for n in 0..=MAX_TOPICS {
            unheard.returned(&n.to_string(), now);
        }
        let known = lock(&unheard.known);
        assert_eq!((known.since.len(), known.order.len()), (MAX_TOPICS, MAX_TOPICS));
        drop(known);
        assert!(unheard.is_heard("0", now) && !unheard.is_heard("1", now) && !unheard.is_heard("10000", now));
    }
}
