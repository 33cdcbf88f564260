//! Topics without a bound queue, according to recently returned events.
//!
//! The client library attaches a returned message to any of the publications that one confirm settles. So a return
//! counts for the topic of the message itself, and never for that of the publication it came with.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::listeners::lock;

/// Lifetime of a return: the second that the port promises, minus the latency of a return.
const COUNTS: Duration = Duration::from_millis(900);
/// Largest number of topics; the oldest are dropped, and their next events are published although nobody listens.
const MAX_TOPICS: usize = 10_000;

/// Topics whose last event was returned.
#[derive(Debug, Default)]
pub(super) struct UnroutableTopics {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    since: HashMap<String, Instant>,
    /// Ordered by time. Entries that were cleared meanwhile stay until they expire.
    order: VecDeque<(Instant, String)>,
}

impl UnroutableTopics {
    pub fn returned(&self, topic: &str, now: Instant) {
        let mut known = lock(&self.known);
        known.tidy(now);
        // A further return does not extend the lifetime, because one event per second must be published.
        if !known.since.contains_key(topic) {
            known.since.insert(topic.to_owned(), now);
            known.order.push_back((now, topic.to_owned()));
        }
    }

    /// Records that an event on this topic, published at `began`, reached a queue.
    pub fn routed(&self, topic: &str, began: Instant) {
        let mut known = lock(&self.known);
        if known.since.get(topic).is_some_and(|since| *since < began) {
            known.since.remove(topic);
        }
    }

    /// Returns true when an event on this topic may reach a queue.
    pub fn may_be_routed(&self, topic: &str, now: Instant) -> bool {
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
        let (unroutable, now) = (UnroutableTopics::default(), Instant::now());
        assert!(unroutable.may_be_routed("a", now));
        unroutable.returned("a", now);
        unroutable.returned("a", now + COUNTS / 2);
        assert!(!unroutable.may_be_routed("a", now + COUNTS - TICK) && unroutable.may_be_routed("b", now));
        assert!(unroutable.may_be_routed("a", now + COUNTS));
        unroutable.returned("a", now + COUNTS);
        assert!(!unroutable.may_be_routed("a", now + COUNTS + TICK), "the next probe says it again");
    }

    #[test]
    fn an_event_that_found_a_queue_clears_its_topic_unless_it_left_before_the_return() {
        let (unroutable, now) = (UnroutableTopics::default(), Instant::now());
        unroutable.returned("a", now + TICK);
        unroutable.routed("a", now);
        assert!(!unroutable.may_be_routed("a", now + TICK));
        unroutable.routed("a", now + 2 * TICK);
        assert!(unroutable.may_be_routed("a", now + 2 * TICK));
        // A topic that was cleared and returned again is not dropped with its earlier entry.
        unroutable.returned("a", now + 3 * TICK);
        unroutable.returned("b", now + COUNTS + TICK);
        assert!(!unroutable.may_be_routed("a", now + COUNTS + TICK));
    }

    #[test]
    fn the_oldest_topics_make_room() {
        let (unroutable, now) = (UnroutableTopics::default(), Instant::now());
        for n in 0..=MAX_TOPICS {
            unroutable.returned(&n.to_string(), now);
        }
        let known = lock(&unroutable.known);
        assert_eq!((known.since.len(), known.order.len()), (MAX_TOPICS, MAX_TOPICS));
        drop(known);
        assert!(
            unroutable.may_be_routed("0", now)
                && !unroutable.may_be_routed("1", now)
                && !unroutable.may_be_routed("10000", now)
        );
    }
}
