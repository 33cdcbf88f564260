//! The thread that samples.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use procfs::ProcError;
use rustix::thread::{ClockId, clock_nanosleep_absolute};

use super::machine::MachineCounters;
use super::process::{Threads, descriptors_of, family, pss_of};
use crate::load::clock::{go_first, nanos, now, timespec};

/// Interval of samples.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Samples between two readings of memory, for which the kernel walks all pages of the process.
const MEMORY_EVERY: u64 = 5;
/// Largest number of samples kept. Beyond it every other one is dropped: a long run has fewer samples per second.
const MAX_SAMPLES: usize = 40_000;
/// Intervals after which a sample counts as a gap.
const GAP: u64 = 3;

/// Owner of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The platform under test.
    Sut,
    Postgres,
    RabbitMq,
    Redis,
    Simulators,
    /// This process: generator, samplers, checkers.
    Harness,
}

impl Part {
    /// All parts, the platform first.
    pub const ALL: [Self; 6] =
        [Self::Sut, Self::Postgres, Self::RabbitMq, Self::Redis, Self::Simulators, Self::Harness];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sut => "sut",
            Self::Postgres => "postgres",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::Simulators => "simulators",
            Self::Harness => "harness",
        }
    }
}

/// Processor time of a part since its processes were first seen, and the resources that they hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct PartSample {
    /// Nanoseconds on a processor.
    pub cpu: u64,
    /// Nanoseconds of waiting for a processor.
    pub waited: u64,
    /// Proportional set size in bytes, as last read.
    pub pss: u64,
    pub threads: usize,
    /// Open file descriptors of the watched processes (not of their children), as last read.
    pub descriptors: usize,
}

/// State of the machine and of each part at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Time of the sample, on the monotonic clock in nanoseconds.
    pub at: u64,
    pub machine: MachineCounters,
    /// Parts that have processes.
    pub parts: BTreeMap<Part, PartSample>,
}

/// Samples in order.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    pub all: Vec<Sample>,
    /// Distances of more than three intervals, in which the machine was too busy to sample.
    pub gaps: u64,
    /// Longest distance, in nanoseconds.
    pub longest_gap: u64,
    /// Reason why nothing was sampled.
    pub trouble: Option<String>,
}

impl Samples {
    /// Returns the samples between two moments, and the last one before them.
    pub fn between(&self, from: u64, to: u64) -> &[Sample] {
        let first = self.all.partition_point(|sample| sample.at < from).saturating_sub(1);
        let last = self.all.partition_point(|sample| sample.at <= to);
        &self.all[first.min(last)..last]
    }

    /// Counts the gaps between two moments.
    pub fn gaps_between(&self, from: u64, to: u64) -> u64 {
        let limit = GAP * nanos(INTERVAL) * self.thinning();
        self.between(from, to).windows(2).filter(|pair| pair[1].at - pair[0].at > limit).count() as u64
    }

    /// Returns the number of intervals between two samples that are kept.
    fn thinning(&self) -> u64 {
        let span = self.all.last().map_or(0, |last| last.at) - self.all.first().map_or(0, |first| first.at);
        let intervals = span / nanos(INTERVAL);
        (intervals / MAX_SAMPLES as u64 + 1).next_power_of_two()
    }
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Vec<(Part, u32)>>,
    samples: Mutex<Samples>,
    stop: AtomicBool,
}

/// A thread that samples until it is dropped.
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts the thread; this process is watched from the beginning.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        lock(&shared.watched).push((Part::Harness, std::process::id()));
        let of_thread = Arc::clone(&shared);
        let run = move || run(&of_thread);
        let thread = Some(std::thread::Builder::new().name("sampler".to_owned()).spawn(run)?);
        Ok(Self { shared, thread })
    }

    /// Counts a process and its children for a part from now on.
    pub fn watch(&self, part: Part, pid: u32) {
        let mut watched = lock(&self.shared.watched);
        if !watched.contains(&(part, pid)) {
            watched.push((part, pid));
        }
    }

    /// Stops to sample a process; its times stay in the sums.
    pub fn forget(&self, pid: u32) {
        lock(&self.shared.watched).retain(|(_, watched)| *watched != pid);
    }

    /// Returns all samples so far.
    pub fn samples(&self) -> Samples {
        lock(&self.shared.samples).clone()
    }

    /// Returns the samples between two moments.
    pub fn between(&self, from: u64, to: u64) -> Samples {
        let samples = lock(&self.shared.samples);
        let all = samples.between(from, to).to_vec();
        let (gaps, trouble) = (samples.gaps_between(from, to), samples.trouble.clone());
        let longest_gap = all.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or(0);
        Samples { all, gaps, longest_gap, trouble }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It wakes within an interval.
            let _ = thread.join();
        }
    }
}

/// Locks state that a panic elsewhere leaves usable.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Shared) {
    // A sampler that waits for a processor sees gaps of its own making.
    go_first();
    let mut used = Used::default();
    let mut due = now();
    for number in 0_u64.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let watched = lock(&shared.watched).clone();
        let sample = used.sample(&watched, number.is_multiple_of(MEMORY_EVERY));
        keep(&mut lock(&shared.samples), sample, number);
        // Samples that were missed are not made up for.
        due = (due + nanos(INTERVAL)).max(now());
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(due));
    }
}

fn keep(samples: &mut Samples, sample: Result<Sample, ProcError>, number: u64) {
    let sample = match sample {
        Ok(sample) => sample,
        Err(error) => {
            samples.trouble = Some(format!("cannot read /proc/stat: {error}"));
            return;
        }
    };
    // After a thinning only every second, fourth, … sample is kept.
    if !number.is_multiple_of(samples.thinning()) {
        return;
    }
    if let Some(last) = samples.all.last() {
        let distance = sample.at - last.at;
        samples.longest_gap = samples.longest_gap.max(distance);
        samples.gaps += u64::from(distance > GAP * nanos(INTERVAL) * samples.thinning());
    }
    samples.all.push(sample);
    if samples.all.len() > MAX_SAMPLES {
        let mut at = 0;
        samples.all.retain(|_| {
            at += 1;
            at % 2 == 1
        });
    }
}

/// Returns the processes that count for a part. Children of the harness belong to other parts and would be counted twice.
fn counted(part: Part, root: u32) -> Vec<u32> {
    if part == Part::Harness { vec![root] } else { family(root) }
}

/// Times of each process, including those that are gone.
#[derive(Default)]
struct Used {
    threads: HashMap<(Part, u32), Threads>,
    memory: BTreeMap<Part, (u64, usize)>,
}

impl Used {
    fn sample(&mut self, watched: &[(Part, u32)], memory: bool) -> Result<Sample, ProcError> {
        let machine = MachineCounters::now()?;
        let at = now();
        if memory {
            self.memory.clear();
        }
        self.threads.values_mut().for_each(Threads::begin);
        for (part, root) in watched {
            let family = counted(*part, *root);
            let threads = self.threads.entry((*part, *root)).or_default();
            family.iter().for_each(|pid| threads.look(*pid));
            if memory {
                let (sum, descriptors) = self.memory.entry(*part).or_default();
                *sum += family.iter().filter_map(|pid| pss_of(*pid)).sum::<u64>();
                *descriptors += descriptors_of(*root).unwrap_or(0);
            }
        }
        let mut parts: BTreeMap<Part, PartSample> = BTreeMap::new();
        for ((part, _), threads) in &self.threads {
            let of_part = parts.entry(*part).or_default();
            let (ran, waited) = threads.sums();
            of_part.cpu += ran;
            of_part.waited += waited;
            of_part.threads += threads.alive();
        }
        for (part, (pss, descriptors)) in &self.memory {
            let of_part = parts.entry(*part).or_default();
            (of_part.pss, of_part.descriptors) = (*pss, *descriptors);
        }
        Ok(Sample { at, machine, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_thinned_and_not_cut() {
        let mut samples = Samples::default();
        let step = nanos(INTERVAL);
        for number in 0..(3 * MAX_SAMPLES as u64) {
            let sample = Sample { at: number * step, machine: MachineCounters::default(), parts: BTreeMap::new() };
            keep(&mut samples, Ok(sample), number);
        }
        assert!(samples.all.len() <= MAX_SAMPLES && samples.all.len() > MAX_SAMPLES / 4, "{}", samples.all.len());
        assert_eq!(samples.all[0].at, 0);
        assert!(samples.all.last().unwrap().at > 2 * MAX_SAMPLES as u64 * step);
        assert_eq!(samples.gaps, 0);
    }

    #[test]
    fn what_the_harness_starts_is_not_its_own() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let own = std::process::id();
        assert!(counted(Part::Sut, own).contains(&child.id()));
        assert_eq!(counted(Part::Harness, own), [own]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_part_is_seen_until_it_is_forgotten() {
        let sampler = Sampler::start().unwrap();
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        sampler.watch(Part::Redis, child.id());
        let seen = loop {
            let samples = sampler.samples();
            if let Some(part) = samples.all.last().and_then(|sample| sample.parts.get(&Part::Redis)).copied()
                && part.pss > 0
            {
                break part;
            }
            std::thread::yield_now();
        };
        assert!(seen.cpu > 0 && seen.threads == 1, "{seen:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let parts = sampler.samples().all.last().unwrap().parts.clone();
        assert!(parts.contains_key(&Part::Harness) && parts[&Part::Redis].cpu >= seen.cpu);
    }
}
