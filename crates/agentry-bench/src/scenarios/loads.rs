//! Loads as rows of tables: what each scenario sends, for how long under each profile, and which criteria it decides.

use std::time::Duration;

use super::experiment::{Experiment, of_quantile, of_windows, once, windows};
use super::plots;
use crate::load::{Caller, Load, LoadModel, Recording, Spacing, clock};
use crate::model::SlowOperation;
use crate::run::{LoadResult, Purpose, RunError};
use crate::sample::Part;
use crate::stats::{clopper_pearson_upper, number};
use crate::sut::Deployment;
use crate::verdict::Observation;

/// Longest wait for the end of accepted tasks.
const DRAIN: Duration = Duration::from_secs(60);

/// Arrival of requests.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rate {
    /// Independent arrivals, so many a second.
    Random(f64),
    /// Equal gaps: with few arrivals random ones leave every second window below the rate by chance alone.
    Even(f64),
    /// So many callers, each of which asks again when it has its answer.
    Callers(usize),
}

/// Figure of a load that a criterion judges.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// This quantile of the latency from the intended moment.
    Latency(f64),
    /// The slowest window, where the rate is sustained.
    Sustained(f64),
    /// The share of what was sent that did not go well, in percent; one-sided 95 % upper bound.
    Errors,
}

/// Plot of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drawing {
    Percentiles,
    /// Requests per second and latency over time.
    OverTime,
    /// Processor use by role.
    Processors,
}

/// One load of a scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadRow {
    /// Begins the names of its figures and plots, and is what its seed comes from.
    pub name: &'static str,
    pub rate: Rate,
    /// Measured seconds under `quick`, `ci`, `standard`, `full`.
    pub seconds: [f64; 4],
    /// Seconds before them, likewise.
    pub warm_up: [f64; 4],
    /// The latency that a criterion asks for, in milliseconds; none where the limit of the machine is looked for.
    pub target_ms: Option<f64>,
    pub drawings: &'static [Drawing],
    /// Criterion, how it is read, and what is said of its source.
    pub readings: &'static [(&'static str, Reading, &'static str)],
}

impl LoadRow {
    /// A load that looks for the limit and decides nothing.
    pub const fn new(name: &'static str, rate: Rate, seconds: [f64; 4]) -> Self {
        Self { name, rate, seconds, warm_up: [0.0; 4], target_ms: None, drawings: &[], readings: &[] }
    }

    pub const fn target(self, ms: f64) -> Self {
        Self { target_ms: Some(ms), ..self }
    }

    pub const fn warm_up(self, warm_up: [f64; 4]) -> Self {
        Self { warm_up, ..self }
    }

    pub const fn draws(self, drawings: &'static [Drawing]) -> Self {
        Self { drawings, ..self }
    }

    pub const fn decides(self, readings: &'static [(&'static str, Reading, &'static str)]) -> Self {
        Self { readings, ..self }
    }

    fn purpose(&self) -> Purpose {
        self.target_ms.map_or_else(Purpose::capacity, Purpose::target)
    }
}

impl Experiment<'_> {
    /// One of four values by profile.
    pub fn by<T: Copy>(&self, of: [T; 4]) -> T {
        of[self.lab.profile as usize]
    }

    pub fn seconds(&self, of: [f64; 4]) -> Duration {
        Duration::from_secs_f64(self.by(of))
    }

    /// The load of a row, on a deployment or on the one that runs already; also the host as requests name it.
    pub fn load_of(&self, row: &LoadRow, deployment: Option<&Deployment>) -> Result<(Load, String), RunError> {
        let (target, host) = self.lab.target(deployment)?;
        let (window, seed) = (self.seconds(row.seconds), self.lab.seed_of(row.name));
        let mut load = match row.rate {
            Rate::Callers(callers) => Load::closed(target, callers, window),
            Rate::Random(rate) | Rate::Even(rate) => Load::open(target, rate, window, seed),
        };
        if let Rate::Even(rate) = row.rate {
            load.model = LoadModel::Open { rate, spacing: Spacing::Uniform, seed };
        }
        Ok((load.warm_up(self.seconds(row.warm_up)), host))
    }

    /// Drives a row: its figures, plots and observations are taken. `caller` gets the host and the seed of the run.
    pub async fn drive<'d, C: Caller + 'static>(
        &mut self,
        row: &LoadRow,
        deployment: impl Into<Option<&'d Deployment>>,
        caller: impl FnOnce(&str, u64) -> C,
    ) -> Result<LoadResult<C>, RunError> {
        let (load, host) = self.load_of(row, deployment.into())?;
        self.drive_load(row, load, caller(&host, self.lab.seed)).await
    }

    /// [`Experiment::drive`] with a load that was made from the row.
    pub async fn drive_load<C: Caller + 'static>(
        &mut self,
        row: &LoadRow,
        load: Load,
        caller: C,
    ) -> Result<LoadResult<C>, RunError> {
        let driven = self.lab.drive(&mut self.test, load, caller, row.purpose()).await?;
        self.figures_of_load(row.name, &driven);
        self.draw(row, &driven);
        for (criterion, reading, source) in row.readings {
            let seen = reading.read(&driven.seen, source);
            let shown = [&format!("{}.latency", row.name), &format!("{}.completed", row.name), row.name];
            self.observe(criterion, seen.shown_by(&shown));
        }
        Ok(driven)
    }

    /// [`Experiment::drive`], and tasks per second from the first send until all have ended: what was accepted and still
    /// waits is not done. Each request brings so many tasks.
    pub async fn drive_to_end<C: Caller + 'static>(
        &mut self,
        row: &LoadRow,
        deployment: Option<&Deployment>,
        tasks_each: usize,
        caller: impl FnOnce(&str, u64) -> C,
    ) -> Result<Observation, RunError> {
        let driven = self.drive(row, deployment, caller).await?;
        self.api(deployment)?.drained(DRAIN).await?;
        let seconds = number(clock::now() - driven.seen.began) / 1e9;
        let tasks = driven.seen.ok * tasks_each as u64;
        let rate = number(tasks) / seconds;
        let source = "a closed loop, first send to the end of the last task";
        self.benefit(row.name, ("1/s", "rate"), rate, tasks, source);
        if let Some(each) = driven.ledger.ms_per(Part::Sut, tasks) {
            self.cost(&format!("{}.each.sut", row.name), ("ms", "mean"), each, tasks, "schedstat of every thread");
        }
        Ok(once(rate, tasks, source).shown_by(&[row.name]).remark("one run on a machine that also makes the load"))
    }

    fn draw<C>(&mut self, row: &LoadRow, driven: &LoadResult<C>) {
        let title = match row.rate {
            Rate::Callers(callers) => format!("{}, {callers} callers", row.name),
            Rate::Random(rate) | Rate::Even(rate) => format!("{}, {rate:.0}/s", row.name),
        };
        for drawing in row.drawings {
            match drawing {
                Drawing::Percentiles => self.plot(plots::percentiles(row.name, &title, &driven.seen, row.target_ms)),
                Drawing::OverTime => {
                    self.test.plots.extend(plots::over_time(self.lab, row.name, &title, &driven.seen));
                }
                Drawing::Processors => self.plot(plots::cpu(self.lab, row.name, driven)),
            }
        }
    }

    /// Adds the figures of a load: rates, latencies from both moments, errors, lag, processor time per answer.
    pub fn figures_of_load<C>(&mut self, name: &str, driven: &LoadResult<C>) {
        let LoadResult { seen, ledger, .. } = driven;
        let of = |what: &str| format!("{name}.{what}");
        let (seconds, by) = (seen.window.as_secs_f64(), "load generator");
        let rate = |count: u64| number(count) / seconds;
        self.figure(&of("offered"), ("1/s", "rate"), rate(seen.offered), seen.offered, by);
        self.benefit(&of("completed"), ("1/s", "rate"), rate(seen.ok), seen.ok, by);
        self.counts(name, &[("refused", seen.refused), ("failed", seen.failed())], seen.offered, by);
        self.latencies(&of("latency"), &seen.latency, "intended start to answer, load generator");
        self.latencies(&of("service"), &seen.service, "actual send to answer, load generator");
        if !seen.lag.is_empty() {
            self.latencies(&of("lag"), &seen.lag, "actual minus intended send");
        }
        let source = "schedstat of every thread";
        for part in Part::ALL {
            let share = ledger.part(part);
            if share.nanos == 0 {
                continue;
            }
            if let Some(each) = ledger.ms_per(part, seen.ok) {
                self.cost(&of(&format!("cpu_per_task.{}", part.as_str())), ("ms", "mean"), each, seen.ok, source);
            }
            let (name, samples) = (of(&format!("cpu.{}", part.as_str())), driven.samples.all.len() as u64);
            self.cost(&name, ("%", "share"), share.machine * 100.0, samples, source);
        }
        for (class, count) in &seen.failures {
            self.note(format!("{name}: {count} × {class}"));
        }
        for (micros, number) in seen.slowest.iter().take(5) {
            self.test.slowest.push(SlowOperation {
                trace_id: trace(self.lab.seed, *number),
                what: format!("{name}, request {number}"),
                t: self.lab.time(seen.began),
                ms: Some(*micros as f64 / 1_000.0),
                error: None,
            });
        }
    }
}

impl Reading {
    fn read(self, seen: &Recording, source: &str) -> Observation {
        match self {
            Self::Latency(quantile) => of_quantile(&seen.latency, quantile, source),
            Self::Sustained(rate) => sustained(seen, rate, source),
            Self::Errors => error_share(seen.failed() + seen.refused, seen.sent, source),
        }
    }
}

/// The rule of "sustained": offered at target, at least 0.99 of the arrivals completed, every 5-s window at least 0.9 of
/// the target.
pub(super) fn sustained(seen: &Recording, target: f64, source: &str) -> Observation {
    let observed = of_windows(&windows(seen), seen.ok, source);
    let slowest = observed.value.unwrap_or(0.0);
    let offered = number(seen.offered) / seen.window.as_secs_f64();
    let completed = number(seen.ok) / number(seen.offered.max(1));
    let trouble = if offered < target {
        format!("only {offered:.1}/s were offered")
    } else if completed < 0.99 {
        format!("only {:.2} % of the arrivals completed", completed * 100.0)
    } else if slowest < 0.9 * target {
        format!("the slowest 5-s window had {slowest:.1}/s")
    } else {
        return observed;
    };
    if slowest >= target { observed.undecided(trouble) } else { observed.remark(trouble) }
}

/// A share of bad ends in percent, judged by the one-sided 95 % upper bound of Clopper and Pearson.
pub(super) fn error_share(bad: u64, n: u64, source: &str) -> Observation {
    let share = if n == 0 { f64::NAN } else { number(bad) / number(n) * 100.0 };
    let upper = clopper_pearson_upper(bad, n) * 100.0;
    Observation::new(share, [share.min(upper), upper], n, source)
}

/// The trace id of a request of a run: 32 hex digits, never all zero.
pub(super) fn trace(seed: u64, number: u64) -> String {
    format!("{:016x}{:016x}", seed | 1, number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_rate_is_judged_by_its_upper_bound() {
        let none = error_share(0, 400, "t");
        assert_eq!(none.value, Some(0.0));
        assert!(none.ci95.is_some_and(|ci| ci[1] > 0.7 && ci[1] < 0.8), "{:?}", none.ci95);
        assert!(error_share(0, 3_000, "t").ci95.is_some_and(|ci| ci[1] < 0.1));
    }
}
