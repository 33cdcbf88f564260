//! An open loop: arrivals come when they come, however late the answers are, and a wait counts from the moment that
//! was meant.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

/// Arrivals that nobody has taken up yet; beyond it the machine is overloaded and the figure means nothing.
const MAX_DUE: usize = 100_000;
/// The longest time for one answer; later counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The system wakes a sleeper about 60 µs late: the last part of each wait is spent awake.
const AWAKE: Duration = Duration::from_micros(120);
/// An answer that takes this long met a pause.
const PAUSE: Duration = Duration::from_millis(10);
/// Pauses that are told one by one.
const WORST: usize = 5;

/// How long answers took.
pub struct Latencies {
    /// In microseconds, ascending.
    micros: Vec<u64>,
    failed: usize,
    /// Those that met a pause: when each was due, counted from the first arrival, and how long it took; in this order.
    late: Vec<(Duration, Duration)>,
}

/// Poisson arrivals from a seed for a while; `each` gets the number of the arrival and says whether it went well.
pub async fn run<F, R>(rate: u64, window: Duration, each: F) -> Latencies
where
    F: Fn(u64) -> R,
    R: Future<Output = bool> + Send + 'static,
{
    let (sender, mut due) = mpsc::channel::<Instant>(MAX_DUE);
    // A thread of its own keeps time: the runtime's timers tick in milliseconds.
    let clock = std::thread::spawn(move || keep_time(rate, window, &sender));
    let mut running = Vec::new();
    let mut number = 0;
    let mut first = None;
    while let Some(intended) = due.recv().await {
        let first = *first.get_or_insert(intended);
        let answer = each(number);
        number += 1;
        running.push(tokio::spawn(async move {
            let well = tokio::time::timeout(PATIENCE, answer).await.unwrap_or(false);
            (intended - first, intended.elapsed(), well)
        }));
    }
    clock.join().unwrap();
    let mut latencies = Latencies::of(Vec::with_capacity(running.len()), 0);
    for task in running {
        let (due, took, well) = task.await.unwrap();
        latencies.micros.push(took.as_micros() as u64);
        latencies.failed += usize::from(!well);
        if took >= PAUSE {
            latencies.late.push((due, took));
        }
    }
    latencies.micros.sort_unstable();
    latencies
}

fn keep_time(rate: u64, window: Duration, due: &mpsc::Sender<Instant>) {
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    let mut next = Instant::now() + Duration::from_millis(100);
    let end = next + window;
    while next < end {
        #[allow(clippy::disallowed_methods, reason = "this thread only keeps time")]
        std::thread::sleep(next.saturating_duration_since(Instant::now() + AWAKE));
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        if due.blocking_send(next).is_err() {
            return;
        }
        next += Duration::from_secs_f64(-chance.random::<f64>().max(1e-12).ln() / rate as f64);
    }
}

impl Latencies {
    /// Those that were measured otherwise, in microseconds, of so many that were expected.
    pub fn of(mut micros: Vec<u64>, expected: usize) -> Self {
        micros.sort_unstable();
        let failed = expected.saturating_sub(micros.len());
        Self { micros, failed, late: Vec::new() }
    }

    /// Of many.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// Those that failed or had no answer in time.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// A quantile, in milliseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        let index = (self.micros.len().saturating_sub(1) as f64 * quantile) as usize;
        self.micros.get(index).map_or(f64::NAN, |micros| *micros as f64 / 1_000.0)
    }

    /// The pauses, in words: answers that took [`PAUSE`] or longer, those together that were due before the one before
    /// had come. Each with its length and its moment, counted from the first arrival.
    pub fn pauses(&self) -> String {
        let mut pauses: Vec<(Duration, Duration, usize)> = Vec::new();
        for (due, took) in &self.late {
            match pauses.last_mut() {
                Some((begin, longest, met)) if *due <= *begin + *longest => {
                    *longest = (*longest).max(*due + *took - *begin);
                    *met += 1;
                }
                _ => pauses.push((*due, *took, 1)),
            }
        }
        let count = pauses.len();
        pauses.sort_by_key(|(_, longest, _)| std::cmp::Reverse(*longest));
        let said = pauses.iter().take(WORST).map(|(begin, longest, met)| {
            format!("{:.0} ms at {:.2} s ({met} answers)", longest.as_secs_f64() * 1_000.0, begin.as_secs_f64())
        });
        let worst = said.collect::<Vec<_>>().join(", ");
        let colon = if worst.is_empty() { "" } else { ": " };
        format!("{count} pauses of {} ms or more{colon}{worst}", PAUSE.as_millis())
    }

    /// The usual quantiles, in words.
    pub fn text(&self) -> String {
        format!(
            "p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, most {:.2} ms (n = {}, {} not ended in time)",
            self.at(0.5),
            self.at(0.95),
            self.at(0.99),
            self.at(1.0),
            self.count(),
            self.failed()
        )
    }
}
