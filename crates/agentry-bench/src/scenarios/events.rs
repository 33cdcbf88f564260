//! 3.1 EventBus throughput: four streams of events through the API, heard by a consumer outside the platform.
//!
//! The sum of independent Poisson streams is a Poisson stream, so one generator sends all four, each event of a kind that
//! the seed draws by the streams' shares. An event is confirmed when the API says that it is durable; it is delivered
//! when a consumer has it: on the embedded engine the event stream of the API, on the cluster engine a RabbitMQ client
//! with a durable queue of its own and manual acknowledgement.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::Found;
use super::callers::number_after;
use super::figures::{self, cost, gain, latencies, metric, quantile_ci};
use super::hearing::{Heard, Hearing};
use super::observe::Observation;
use super::plots;
use crate::check::check_queue;
use crate::load::{Answer, Caller, Load, Outcome, by_status, clock, put_post};
use crate::model::{Axis, Engine, Plot, PlotKind, Series, Test};
use crate::run::{Lab, Purpose, RunError};
use crate::sample::Part;
use crate::sut::{Deployment, Member, Plan, fleet};

/// The streams of the peak scenario: topic and events per second.
const STREAMS: [(&str, f64); 4] = [
    ("slack.event.message", 100.0),
    ("task.submission.new", 50.0),
    ("agent.result.done", 50.0),
    ("schedule.task.due", 10.0),
];
/// Events per second of all streams.
const PEAK: f64 = 210.0;
const BURST: f64 = 500.0;
/// The size of an event in bytes.
const SIZE: usize = 1_024;
/// How long deliveries may take to come in after the last send.
const DRAIN: Duration = Duration::from_secs(60);

/// Publishes events.
pub struct Events {
    host: String,
    /// Of this load: tells its events from those of others.
    run: u64,
    chance: StdRng,
    pad: String,
    /// Numbers of events that were sent, and of those that were confirmed.
    sent: BTreeSet<String>,
    confirmed: BTreeSet<String>,
}

impl Events {
    fn new(host: &str, run: u64, size: usize) -> Self {
        let pad = "x".repeat(size.saturating_sub(160));
        let chance = StdRng::seed_from_u64(run);
        Self { host: host.to_owned(), run, chance, pad, sent: BTreeSet::new(), confirmed: BTreeSet::new() }
    }
}

impl Caller for Events {
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>) {
        let mut draw = self.chance.random::<f64>() * PEAK;
        let stream = STREAMS.iter().find(|(_, rate)| {
            draw -= rate;
            draw < 0.0
        });
        let topic = stream.map_or(STREAMS[0].0, |(topic, _)| topic);
        let (run, pad) = (self.run, &self.pad);
        let body = format!(
            "{{\"topic\":\"{topic}\",\"source\":\"bench\",\"id\":\"{run}-{number}\",\
             \"data\":{{\"run\":{run},\"n\":{number},\"t0\":{intended},\"pad\":\"{pad}\"}}}}"
        );
        put_post(out, &self.host, "/v1/events", &[], body.as_bytes());
        self.sent.insert(number.to_string());
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        let outcome = by_status(answer.status);
        if outcome == Outcome::Ok {
            self.confirmed.insert(answer.number.to_string());
        }
        outcome
    }
}

/// Runs the peak, the burst and the drain.
///
/// # Errors
/// When the platform or a consumer does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let title = "Four streams, 210 events/s of 1 KiB, then 500/s, then drained";
    let mut test = lab.test("3.1-throughput", title, "none");
    test.params.insert("bytes".to_owned(), json!(SIZE));
    test.params.insert(
        "streams".to_owned(),
        json!(STREAMS.iter().map(|(topic, rate)| json!([topic, rate])).collect::<Vec<_>>()),
    );
    let mut seen = Vec::new();
    let members = vec![Member::new("api", "api", ""), Member::new("worker-1", "worker,scheduler", "")];
    let plan = Plan { agents: vec![fleet::noop()], members, ..Plan::default() };
    let deployment = match lab.url {
        Some(_) => None,
        None => Some(lab.deploy(plan).await?),
    };
    let hearing = hear(lab, deployment.as_ref()).await?;
    test.notes.push(hearing.words().to_owned());

    let window = lab.seconds(8.0, 30.0, 300.0, 3_600.0);
    let peak = one(lab, &mut test, deployment.as_ref(), &hearing, "peak", PEAK, window, 1).await?;
    judge_peak(&peak, &mut test, &mut seen);
    let window = lab.seconds(5.0, 15.0, 60.0, 60.0);
    let burst = one(lab, &mut test, deployment.as_ref(), &hearing, "burst", BURST, window, 2).await?;
    judge_burst(&burst, window, &mut seen);
    if lab.engine == Engine::Cluster {
        let source = "not looked for: the limit of the bus needs publishers beside the API";
        seen.push(Observation::not_run("stretch/bus-rate", source));
    }
    Ok(Found { tests: vec![test], seen })
}

async fn hear(lab: &mut Lab, deployment: Option<&Deployment>) -> Result<Hearing, RunError> {
    let api = lab.api(deployment)?.clone();
    match (lab.engine, deployment) {
        (Engine::Cluster, Some(deployment)) => {
            let url = lab.servers().await?.urls().rabbitmq;
            Ok(Hearing::of_rabbitmq(&url, deployment.name()).await?)
        }
        _ => Ok(Hearing::of_api(&api).await?),
    }
}

/// What one load came to.
struct Phase {
    offered: f64,
    heard: Heard,
    seen: crate::load::Recording,
    lost: u64,
    unexpected: u64,
    /// Seconds from the last send until everything confirmed was delivered.
    drained: Option<f64>,
    /// Share of the arrival rate by which the depth grew: estimate and interval, in percent.
    growth: Option<(f64, [f64; 2])>,
}

#[expect(clippy::too_many_arguments, reason = "one load of the scenario: all of them are its parameters")]
async fn one(
    lab: &mut Lab,
    test: &mut Test,
    deployment: Option<&Deployment>,
    hearing: &Hearing,
    name: &str,
    rate: f64,
    window: Duration,
    number: u64,
) -> Result<Phase, RunError> {
    let (target, host) = lab.target(deployment)?;
    let run = lab.seed_of(name) % 1_000_000_000 + number;
    // Random arrivals fall short of their rate in half of all windows; a little more is offered.
    let offered = rate * 1.1;
    let warm_up = lab.seconds(1.0, 5.0, 30.0, 60.0);
    let load = Load::open(target, offered, window, lab.seed_of(name)).warm_up(warm_up);
    hearing.begin(run);
    let driven = lab.drive(test, load, Events::new(&host, run, SIZE), Purpose::target(100.0)).await?;
    let end = driven.seen.began + clock::nanos(driven.seen.window);
    let confirmed = driven.caller.confirmed.len();
    let waited = hearing.until(confirmed, DRAIN).await;
    let drained = waited.then(|| clock::now().saturating_sub(end) as f64 / 1e9);
    let heard = hearing.take(driven.seen.began, end);
    let report = check_queue(&driven.caller.sent, &driven.caller.confirmed, heard.ids.iter().map(String::as_str));
    let id = format!("bus.{name}");
    figures::of_load(test, lab, &id, &driven);
    test.metrics.extend(latencies(
        &format!("{id}.delivery"),
        &heard.delivery,
        "intended send to the consumer, monotonic clock",
    ));
    test.metrics.extend(latencies(&format!("{id}.confirm"), &driven.seen.latency, "intended send to durable (2xx)"));
    let consumed = heard.delivery.len() as f64 / window.as_secs_f64();
    test.metrics.push(gain(&format!("{id}.consumed"), "1/s", "rate", consumed, heard.delivery.len(), hearing.words()));
    for (what, count) in [("lost", report.lost), ("unexpected", report.unexpected), ("redelivered", report.duplicated)]
    {
        test.metrics.push(cost(
            &format!("{id}.{what}"),
            "count",
            "count",
            count as f64,
            report.acknowledged,
            "ledger of ids",
        ));
    }
    if let Some(last) = driven.samples.all.last().and_then(|sample| sample.parts.get(&Part::RabbitMq)) {
        let source = "smaps_rollup of the broker";
        test.metrics.push(cost(&format!("{id}.broker_pss"), "MB", "max", last.memory.pss as f64 / 1e6, 1, source));
    }
    let depth = heard.depth(lab);
    let growth = growth(&depth, offered, lab.seed);
    test.plots.push(plots::percentiles(
        &id,
        &format!("Confirm latency at {offered:.0}/s"),
        &driven.seen,
        Some((100.0, "target 100 ms")),
    ));
    test.plots.extend(plots::over_time(lab, &id, &format!("{offered:.0} events/s"), &driven.seen));
    test.plots.push(depth_plot(&id, depth));
    if let Some(seconds) = drained {
        test.metrics.push(metric(&format!("{id}.drained"), "s", "max", seconds, 1, "last send to the last delivery"));
    }
    Ok(Phase { offered, seen: driven.seen, lost: report.lost, unexpected: report.unexpected, heard, drained, growth })
}

/// The slope of the depth as a share of the arrivals, in percent, with its interval.
fn growth(depth: &[[f64; 2]], rate: f64, seed: u64) -> Option<(f64, [f64; 2])> {
    let slope = crate::stats::theil_sen(depth, seed)?;
    let share = |slope: f64| slope / rate * 100.0;
    Some((share(slope.slope), [share(slope.ci95[0]), share(slope.ci95[1])]))
}

fn depth_plot(id: &str, depth: Vec<[f64; 2]>) -> Plot {
    let most = depth.iter().map(|point| point[1]).fold(0.0, f64::max);
    Plot {
        id: format!("{id}-depth"),
        title: "Events confirmed and not yet delivered".to_owned(),
        kind: PlotKind::Line,
        x: Axis::time(),
        y: Axis::new("events", ""),
        series: vec![Series::measured("depth", depth)],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!("at most {most:.0} events were on their way"),
    }
}

fn judge_peak(peak: &Phase, test: &mut Test, seen: &mut Vec<Observation>) {
    let rates = peak.heard.windows();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    let source = "deliveries per second; the interval is from the slowest to the fastest 5-s window";
    let n = peak.heard.delivery.len();
    let mut sustained = Observation::new("3.1/sustained", slowest, n, source)
        .ci(Some([slowest, fastest]))
        .shown_by(&["bus.peak.consumed", "bus.peak-rate"]);
    let share = n as f64 / peak.seen.offered.max(1) as f64;
    if share < 0.99 {
        sustained =
            sustained.undecided(format!("only {:.2} % of the arrivals were delivered in the window", share * 100.0));
    }
    seen.push(sustained);
    let delivery = &peak.heard.delivery;
    let source = "intended send to the consumer, monotonic clock of the machine";
    let p95 = delivery.value_at_quantile(0.95) as f64 / 1_000.0;
    seen.push(
        Observation::new("3.1/delivery-p95", p95, delivery.len(), source)
            .ci(quantile_ci(delivery, 0.95))
            .shown_by(&["bus.peak.delivery", "bus.peak"]),
    );
    let source = "Theil–Sen slope of confirmed minus delivered, share of the arrivals";
    match peak.growth {
        Some((share, ci)) => {
            // What shrinks does not build up.
            let observed =
                Observation::new("3.1/no-buildup", share, n, source).ci(Some(ci)).shown_by(&["bus.peak-depth"]);
            seen.push(observed);
        }
        None => seen.push(Observation::not_run("3.1/no-buildup", "too few samples of the depth")),
    }
    if peak.lost + peak.unexpected > 0 {
        test.notes.push(format!("peak: {} events lost, {} out of nowhere", peak.lost, peak.unexpected));
    }
}

fn judge_burst(burst: &Phase, window: Duration, seen: &mut Vec<Observation>) {
    let rates = burst.heard.windows();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    let n = burst.heard.delivery.len();
    let source = "deliveries per second through the burst; the interval is from the slowest to the fastest 5-s window";
    let mut observed = Observation::new("3.1/burst", slowest, n, source).ci(Some([slowest, fastest]));
    observed = match burst.drained {
        Some(seconds) => observed.remark(format!("all delivered {seconds:.2} s after the last send")),
        None => observed.undecided(format!("not everything was delivered within {} s", DRAIN.as_secs())),
    };
    if window < Duration::from_secs(60) {
        observed = observed.undecided(format!("shortened: {} s instead of a minute only indicate", window.as_secs()));
    }
    seen.push(observed.shown_by(&["bus.burst.consumed", "bus.burst-rate"]));
    let delivery = &burst.heard.delivery;
    let p95 = delivery.value_at_quantile(0.95) as f64 / 1_000.0;
    let source = "intended send to the consumer";
    let rate = format!("at {:.0}/s", burst.offered);
    seen.push(
        Observation::new("stretch/bus-p95", p95, delivery.len(), source).ci(quantile_ci(delivery, 0.95)).remark(rate),
    );
}

/// The load and the number of an event as a consumer sees it, and when it was meant to be sent.
pub fn read_event(text: &[u8]) -> Option<(u64, u64, u64)> {
    Some((number_after(text, b"\"run\":")?, number_after(text, b"\"n\":")?, number_after(text, b"\"t0\":")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back() {
        let mut out = Vec::new();
        Events::new("h", 77, 512).request(5, 123_456, &mut out);
        assert_eq!(read_event(&out), Some((77, 5, 123_456)));
        assert!(out.len() > 450 && out.len() < 800, "{}", out.len());
    }
}
