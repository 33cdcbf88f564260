//! Results of a load, in a size that does not grow with the number of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::SECOND;
use crate::stats::histogram;

/// Number of slowest requests that are kept.
const SLOWEST: usize = 20;

/// Records a duration in nanoseconds in a histogram of microseconds.
pub(super) fn take(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record((nanos / 1_000).max(1));
}

/// One second of a load, warm-up included. Events count in the second in which they happen.
#[derive(Debug, Clone, Default)]
pub struct Second {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    /// Latencies of successful answers as (microseconds, count), ascending.
    pub latencies: Vec<(u64, u64)>,
}

impl Second {
    /// Returns a quantile of this second's latencies in milliseconds; `None` when it has none.
    pub fn at(&self, quantile: f64) -> Option<f64> {
        let all: u64 = self.latencies.iter().map(|(_, count)| count).sum();
        let rank = ((all as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (micros, count) in &self.latencies {
            seen += count;
            if seen >= rank {
                return Some(*micros as f64 / 1_000.0);
            }
        }
        None
    }
}

/// Results of a load. Totals are of requests whose intended moment lies in the measured window.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Start of the measured window, on the monotonic clock in nanoseconds.
    pub began: u64,
    pub window: Duration,
    pub offered: u64,
    pub sent: u64,
    pub ok: u64,
    pub refused: u64,
    /// Failures by class. `no answer in time`, `connection lost` and `no connection` are among them.
    pub failures: BTreeMap<&'static str, u64>,
    /// Latency of successful answers (and of timed out requests, at their timeout) from the
    /// intended moment, in microseconds.
    pub latency: Histogram<u64>,
    /// Latency of the same answers from the actual send.
    pub service: Histogram<u64>,
    /// Latency of refusals from the intended moment.
    pub refusals: Histogram<u64>,
    /// Delay of sends in microseconds; open loops only.
    pub lag: Histogram<u64>,
    /// Sends that started later than [`super::Load::late_after`].
    pub late: u64,
    /// Arrivals that could not be sent because too many were in flight: the run is invalid.
    pub capped: u64,
    pub peak_in_flight: usize,
    /// Latencies below zero: an error of the harness, which makes the run invalid.
    pub negative: u64,
    /// Seconds from the start of the warm-up.
    pub seconds: Vec<Second>,
    /// Seconds of warm-up at the start of `seconds`.
    pub warm_up_seconds: usize,
    /// Slowest answers as (microseconds, number of the request).
    pub slowest: Vec<(u64, u64)>,
    /// The load was stopped before its window ended.
    pub stopped: bool,
}

impl Recording {
    pub(super) fn new(began: u64, window: Duration, warm_up_seconds: usize) -> Self {
        Self {
            began,
            window,
            offered: 0,
            sent: 0,
            ok: 0,
            refused: 0,
            failures: BTreeMap::new(),
            latency: histogram(),
            service: histogram(),
            refusals: histogram(),
            lag: histogram(),
            late: 0,
            capped: 0,
            peak_in_flight: 0,
            negative: 0,
            seconds: Vec::new(),
            warm_up_seconds,
            slowest: Vec::new(),
            stopped: false,
        }
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the successful answers per second of the window.
    pub fn rate(&self) -> f64 {
        self.ok as f64 / self.window.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns a quantile of the latency in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Returns the share of sends that started late or not at all.
    pub fn late_share(&self) -> f64 {
        (self.late + self.capped) as f64 / (self.offered.max(1)) as f64
    }

    /// Returns the seconds of the measured window.
    pub fn measured_seconds(&self) -> &[Second] {
        let whole = usize::try_from(self.window.as_secs()).unwrap_or(usize::MAX);
        let from = self.warm_up_seconds.min(self.seconds.len());
        &self.seconds[from..self.seconds.len().min(from.saturating_add(whole))]
    }

    pub(super) fn note_slow(&mut self, micros: u64, number: u64) {
        if self.slowest.len() == SLOWEST && self.slowest.last().is_some_and(|(least, _)| *least >= micros) {
            return;
        }
        let at = self.slowest.partition_point(|(slow, _)| *slow > micros);
        self.slowest.insert(at, (micros, number));
        self.slowest.truncate(SLOWEST);
    }
}

/// The seconds of a running load: only the current one has a histogram.
#[derive(Debug)]
pub(super) struct Seconds {
    start: u64,
    current: usize,
    histogram: Histogram<u64>,
    /// 95th percentile of the last second that had answers, in microseconds.
    pub(super) last_p95: u64,
}

impl Seconds {
    pub(super) fn new(start: u64) -> Self {
        Self { start, current: 0, histogram: histogram(), last_p95: 0 }
    }

    /// Returns the second of this moment.
    pub(super) fn at<'a>(&mut self, now: u64, all: &'a mut Vec<Second>) -> &'a mut Second {
        let index = usize::try_from(now.saturating_sub(self.start) / SECOND).unwrap_or(usize::MAX);
        if index > self.current {
            self.close(all);
            self.current = index;
        }
        while all.len() <= self.current {
            all.push(Second::default());
        }
        &mut all[self.current]
    }

    pub(super) fn latency(&mut self, nanos: u64) {
        take(&mut self.histogram, nanos);
    }

    /// Closes the current second.
    pub(super) fn close(&mut self, all: &mut [Second]) {
        if self.histogram.is_empty() {
            return;
        }
        self.last_p95 = self.histogram.value_at_quantile(0.95);
        if let Some(second) = all.get_mut(self.current) {
            let values = self.histogram.iter_recorded();
            second.latencies = values.map(|value| (value.value_iterated_to(), value.count_at_value())).collect();
        }
        self.histogram.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_latencies() {
        let (mut seconds, mut all) = (Seconds::new(0), Vec::new());
        for number in 1..=100_u64 {
            seconds.at(SECOND / 2, &mut all).ok += 1;
            seconds.latency(number * 1_000_000);
        }
        seconds.at(3 * SECOND, &mut all).ok += 1;
        seconds.close(&mut all);
        assert_eq!(all.iter().map(|second| second.ok).collect::<Vec<_>>(), [100, 0, 0, 1]);
        let p95 = all[0].at(0.95).unwrap();
        assert!((94.9..95.2).contains(&p95), "{p95}");
        assert_eq!(all[1].at(0.5), None);
    }

    #[test]
    fn the_slowest_are_named() {
        let mut recording = Recording::new(0, Duration::from_secs(1), 0);
        for number in 0..100 {
            recording.note_slow(number * 7 % 101, number);
        }
        assert_eq!(recording.slowest.len(), SLOWEST);
        assert!(recording.slowest.windows(2).all(|pair| pair[0].0 >= pair[1].0));
        assert_eq!(recording.slowest[0].0, (0..100).map(|number| number * 7 % 101).max().unwrap());
    }
}
