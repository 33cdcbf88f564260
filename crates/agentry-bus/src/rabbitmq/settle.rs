//! Settlement of deliveries with as few frames as possible.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fault::{Fault, within};

const MAX_BATCH: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    /// The broker forgets it.
    Ack,
    /// The broker delivers it again.
    Return,
}

/// Sends settlements of a channel. It never fills up when its capacity is at least the channel's prefetch, because each
/// delivery is settled once.
pub(super) type Settler = mpsc::Sender<(u64, Settlement)>;

/// Settles deliveries of a channel until something fails. Returned ones go back after `pause`, so that a delivery that
/// cannot be processed now does not come back at once.
pub(super) async fn settle(
    channel: Channel,
    mut settled: mpsc::Receiver<(u64, Settlement)>,
    pause: Duration,
) -> Result<(), Fault> {
    let mut window = Window::default();
    let mut returned: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut batch = Vec::new();
    loop {
        let due = returned.front().map(|(at, _)| *at);
        tokio::select! {
            count = settled.recv_many(&mut batch, MAX_BATCH) => if count == 0 { return Ok(()) },
            () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
        }
        for (tag, settlement) in batch.drain(..) {
            match settlement {
                Settlement::Ack => window.settle(tag, false),
                Settlement::Return => returned.push_back((Instant::now() + pause, tag)),
            }
        }
        while let Some((_, tag)) = returned.pop_front_if(|(at, _)| *at <= Instant::now()) {
            let options = BasicNackOptions { requeue: true, multiple: false };
            within("returning a delivery", channel.basic_nack(tag, options)).await?;
            window.settle(tag, true);
        }
        let acks =
            window.drain().into_iter().map(|(tag, multiple)| channel.basic_ack(tag, BasicAckOptions { multiple }));
        within("acknowledging deliveries", try_join_all(acks)).await?;
    }
}

/// Tracks settled deliveries of a channel. Tags count from 1 without gaps.
#[derive(Debug)]
struct Window {
    /// Lowest tag that is not settled.
    next: u64,
    /// Settled tags from there on; true when the broker knows already.
    settled: BTreeMap<u64, bool>,
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 1, settled: BTreeMap::new() }
    }
}

impl Window {
    fn settle(&mut self, tag: u64, known: bool) {
        self.settled.insert(tag, known);
    }

    /// Returns the acknowledgements to send: one for all consecutive settled tags, and one for each of the others. The
    /// tag of a multiple acknowledgement is always unsettled at the broker, which refuses others.
    fn drain(&mut self) -> Vec<(u64, bool)> {
        let mut acks = Vec::new();
        let (mut last, mut count) = (None, 0);
        while let Some(known) = self.settled.remove(&self.next) {
            if !known {
                (last, count) = (Some(self.next), count + 1);
            }
            self.next += 1;
        }
        acks.extend(last.map(|tag| (tag, count > 1)));
        for (tag, known) in self.settled.iter_mut().filter(|(_, known)| !**known) {
            *known = true;
            acks.push((*tag, false));
        }
        acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_for_all_without_a_gap() {
        let mut window = Window::default();
        for tag in [2, 1, 3] {
            window.settle(tag, false);
        }
        assert_eq!(window.drain(), [(3, true)]);
        window.settle(4, false);
        assert_eq!(window.drain(), [(4, false)]);
        assert_eq!(window.drain(), []);
    }

    #[test]
    fn a_gap_is_never_acknowledged() {
        let mut window = Window::default();
        for tag in [1, 3, 4] {
            window.settle(tag, false);
        }
        assert_eq!(window.drain(), [(1, false), (3, false), (4, false)]);
        // 2 is returned: the broker knows of 2, 3 and 4, and only 5 is left to acknowledge.
        window.settle(2, true);
        window.settle(5, false);
        assert_eq!(window.drain(), [(5, false)]);
        window.settle(6, true);
        assert_eq!(window.drain(), [], "nothing to say about what is known");
        window.settle(7, false);
        window.settle(8, false);
        assert_eq!(window.drain(), [(8, true)]);
    }
}
