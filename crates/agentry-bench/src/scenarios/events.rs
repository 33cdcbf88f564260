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

use super::callers::number_after;
use super::consumer::{Deliveries, EventConsumer};
use super::experiment::{Experiment, of_quantile, of_windows};
use super::loads::{Drawing, LoadRow, Rate};
use crate::check::{QueueReport, check_queue};
use crate::load::{Answer, Caller, Outcome, Recording, by_status, clock, put_post};
use crate::model::{Axis, Engine, Plot, PlotKind, Point, Series};
use crate::run::RunError;
use crate::sample::Part;
use crate::stats::theil_sen;
use crate::sut::{Deployment, Member, Plan, fleet};
use crate::verdict::Observation;

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
/// Random arrivals fall short of their rate in half of all windows; a little more is offered.
const MARGIN: f64 = 1.1;
const WARM_UP: [f64; 4] = [1.0, 5.0, 30.0, 60.0];
/// The size of an event in bytes.
const SIZE: usize = 1_024;
/// Longest wait for deliveries after the last send.
const DRAIN: Duration = Duration::from_secs(60);

/// Publishes events.
struct EventCaller {
    host: String,
    /// Of this load: tells its events from those of others.
    run: u64,
    rng: StdRng,
    pad: String,
    /// Numbers of events that were sent, and of those that were confirmed.
    sent: BTreeSet<String>,
    confirmed: BTreeSet<String>,
}

impl EventCaller {
    fn new(host: &str, run: u64, size: usize) -> Self {
        let pad = "x".repeat(size.saturating_sub(160));
        let rng = StdRng::seed_from_u64(run);
        Self { host: host.to_owned(), run, rng, pad, sent: BTreeSet::new(), confirmed: BTreeSet::new() }
    }
}

impl Caller for EventCaller {
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>) {
        let mut draw = self.rng.random::<f64>() * PEAK;
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

const PEAK_LOAD: LoadRow = LoadRow::new("bus.peak", Rate::Random(PEAK * MARGIN), [8.0, 30.0, 300.0, 3_600.0])
    .warm_up(WARM_UP)
    .target(100.0)
    .draws(&[Drawing::Percentiles, Drawing::OverTime]);
const BURST_LOAD: LoadRow = LoadRow::new("bus.burst", Rate::Random(BURST * MARGIN), [5.0, 15.0, 60.0, 60.0])
    .warm_up(WARM_UP)
    .target(100.0)
    .draws(&[Drawing::Percentiles, Drawing::OverTime]);

/// Runs the peak, the burst and the drain.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let streams: Vec<_> = STREAMS.iter().map(|(topic, rate)| json!([topic, rate])).collect();
    x.test.params.extend([("bytes".to_owned(), json!(SIZE)), ("streams".to_owned(), json!(streams))]);
    let members = vec![Member::new("api", "api", ""), Member::new("worker-1", "worker,scheduler", "")];
    let plan = Plan { agents: vec![fleet::noop()], members, ..Plan::default() };
    let deployment = match x.lab.url {
        Some(_) => None,
        None => Some(x.deploy(plan).await?),
    };
    let consumer = consumer(x, deployment.as_ref()).await?;
    x.note(consumer.description());
    let peak = publish(x, deployment.as_ref(), &consumer, &PEAK_LOAD).await?;
    judge_peak(x, &peak);
    let burst = publish(x, deployment.as_ref(), &consumer, &BURST_LOAD).await?;
    judge_burst(x, &burst);
    x.not_run(&["stretch/bus-rate"], "not looked for: the limit of the bus needs publishers beside the API");
    Ok(())
}

async fn consumer(x: &mut Experiment<'_>, deployment: Option<&Deployment>) -> Result<EventConsumer, RunError> {
    match (x.lab.engine, deployment) {
        (Engine::Cluster, Some(deployment)) => {
            let url = x.lab.servers().await?.urls().rabbitmq;
            Ok(EventConsumer::of_rabbitmq(&url, deployment.name()).await?)
        }
        _ => Ok(EventConsumer::of_api(x.api(deployment)?).await?),
    }
}

/// Result of one load.
struct PublishResult {
    heard: Deliveries,
    seen: Recording,
    report: QueueReport,
    /// Seconds from the last send until everything confirmed was delivered.
    drained: Option<f64>,
    /// The slope of the depth as a share of the arrivals, in percent, with its interval.
    growth: Option<Observation>,
}

async fn publish(
    x: &mut Experiment<'_>,
    deployment: Option<&Deployment>,
    consumer: &EventConsumer,
    row: &LoadRow,
) -> Result<PublishResult, RunError> {
    let run = x.lab.seed_of(row.name) % 1_000_000_000;
    consumer.begin(run);
    let driven = x.drive(row, deployment, |host, _| EventCaller::new(host, run, SIZE)).await?;
    let end = driven.seen.began + clock::nanos(driven.seen.window);
    let waited = consumer.until(driven.caller.confirmed.len(), DRAIN).await;
    let drained = waited.then(|| clock::now().saturating_sub(end) as f64 / 1e9);
    let heard = consumer.take(driven.seen.began, end);
    let report = check_queue(&driven.caller.sent, &driven.caller.confirmed, heard.ids.iter().map(String::as_str));
    let of = |what: &str| format!("{}.{what}", row.name);
    let n = heard.delivery.len();
    x.latencies(&of("delivery"), &heard.delivery, "intended send to the consumer, monotonic clock");
    x.latencies(&of("confirm"), &driven.seen.latency, "intended send to durable (2xx)");
    let consumed = n as f64 / driven.seen.window.as_secs_f64();
    x.benefit(&of("consumed"), ("1/s", "rate"), consumed, n, consumer.description());
    let wrong = [("lost", report.lost), ("unexpected", report.unexpected), ("redelivered", report.duplicated)];
    x.counts(row.name, &wrong, report.acknowledged, "ledger of ids");
    if let Some(broker) = driven.samples.all.last().and_then(|sample| sample.parts.get(&Part::RabbitMq)) {
        let pss = broker.pss as f64 / 1e6;
        x.cost(&of("broker_pss"), ("MB", "max"), pss, 1, "smaps_rollup of the broker");
    }
    let depth = heard.depth(x.lab);
    let growth = theil_sen(&depth, x.lab.seed).map(|trend| {
        let offered = driven.seen.offered as f64 / driven.seen.window.as_secs_f64();
        let share = |slope: f64| slope / offered * 100.0;
        let source = "Theil–Sen slope of confirmed minus delivered, share of the arrivals";
        Observation::new(share(trend.slope), trend.ci95.map(share), n, source)
    });
    x.plot(depth_plot(row.name, depth));
    if let Some(seconds) = drained {
        x.figure(&of("drained"), ("s", "max"), seconds, 1, "last send to the last delivery");
    }
    Ok(PublishResult { seen: driven.seen, report, heard, drained, growth })
}

fn depth_plot(id: &str, depth: Vec<Point>) -> Plot {
    let most = depth.iter().map(|point| point[1]).fold(0.0, f64::max);
    Plot::new(
        format!("{id}-depth"),
        "Events confirmed and not yet delivered",
        PlotKind::Line,
        (Axis::time(), Axis::new("events", "")),
        vec![Series::measured("depth", depth)],
        format!("at most {most:.0} events were on their way"),
    )
}

fn judge_peak(x: &mut Experiment<'_>, peak: &PublishResult) {
    let n = peak.heard.delivery.len();
    let mut sustained = of_windows(&peak.heard.windows(), n, "deliveries per second in the slowest 5-s window");
    let share = n as f64 / peak.seen.offered.max(1) as f64 * 100.0;
    if share < 99.0 {
        sustained = sustained.undecided(format!("only {share:.2} % of the arrivals were delivered in the window"));
    }
    x.observe("3.1/sustained", sustained.shown_by(&["bus.peak.consumed", "bus.peak-rate"]));
    let source = "intended send to the consumer, monotonic clock of the machine";
    let delivery = of_quantile(&peak.heard.delivery, 0.95, source);
    x.observe("3.1/delivery-p95", delivery.shown_by(&["bus.peak.delivery", "bus.peak"]));
    match &peak.growth {
        // What shrinks does not build up.
        Some(growth) => x.observe("3.1/no-buildup", growth.clone().shown_by(&["bus.peak-depth"])),
        None => x.not_run(&["3.1/no-buildup"], "too few samples of the depth"),
    }
    if !peak.report.is_valid() {
        x.note(format!("peak: {} events lost, {} out of nowhere", peak.report.lost, peak.report.unexpected));
    }
}

fn judge_burst(x: &mut Experiment<'_>, burst: &PublishResult) {
    let n = burst.heard.delivery.len();
    let seen =
        of_windows(&burst.heard.windows(), n, "deliveries per second through the burst in the slowest 5-s window");
    let mut seen = match burst.drained {
        Some(seconds) => seen.remark(format!("all delivered {seconds:.2} s after the last send")),
        None => seen.undecided(format!("not everything was delivered within {} s", DRAIN.as_secs())),
    };
    let seconds = burst.seen.window.as_secs();
    if seconds < 60 {
        seen = seen.undecided(format!("shortened: {seconds} s instead of a minute only indicate"));
    }
    x.observe("3.1/burst", seen.shown_by(&["bus.burst.consumed", "bus.burst-rate"]));
    let delivery = of_quantile(&burst.heard.delivery, 0.95, "intended send to the consumer");
    x.observe("stretch/bus-p95", delivery.remark(format!("at {:.0}/s", BURST * MARGIN)));
}

/// The load and the number of an event as a consumer sees it, and when it was meant to be sent.
pub(super) fn read_event(text: &[u8]) -> Option<(u64, u64, u64)> {
    Some((number_after(text, b"\"run\":")?, number_after(text, b"\"n\":")?, number_after(text, b"\"t0\":")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back() {
        let mut out = Vec::new();
        EventCaller::new("h", 77, 512).request(5, 123_456, &mut out);
        assert_eq!(read_event(&out), Some((77, 5, 123_456)));
        assert!(out.len() > 450 && out.len() < 800, "{}", out.len());
    }
}
