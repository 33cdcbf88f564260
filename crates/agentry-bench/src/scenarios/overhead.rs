//! Cost of observability: durable no-op tasks with traces and scrapes against the same without, in pairs of rounds.

use agentry_lab::LabError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::callers::TaskCaller;
use super::experiment::Experiment;
use super::loads::{LoadRow, Rate};
use crate::run::RunError;
use crate::sample::Scraper;
use crate::stats::{RESAMPLES, bootstrap, median};
use crate::sut::{Plan, fleet};
use crate::verdict::Observation;

/// The share of traces that has spans.
const SAMPLED: &str = "0.01";
/// Answer of an OTLP/HTTP collector: an empty protobuf message, which has no bytes.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

const fn round(name: &'static str) -> LoadRow {
    LoadRow::new(name, Rate::Callers(64), [0.0, 4.0, 5.0, 5.0]).warm_up([1.0; 4])
}

const WATCHED: LoadRow = round("watched.with");
const UNWATCHED: LoadRow = round("watched.without");

/// Tasks per second and milliseconds of processor time per task.
type Round = (f64, f64);

/// Pairs of rounds, one of each kind, in the order A B, B A, A B and so on: what drifts meets both alike.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let collector = Collector::start().await?;
    let (mut lost, mut more) = (Vec::new(), Vec::new());
    for pair in 0..x.by([1, 4, 8, 8]) {
        x.lab.progress.tick(&format!("pair {}", pair + 1));
        let (bare, watched): (Round, Round) = if pair % 2 == 0 {
            let bare = unwatched(x).await?;
            (bare, watched(x, &collector).await?)
        } else {
            let watched = watched(x, &collector).await?;
            (unwatched(x).await?, watched)
        };
        lost.push((1.0 - watched.0 / bare.0) * 100.0);
        more.push((watched.1 / bare.1 - 1.0) * 100.0);
    }
    let (n, source) = (lost.len() as u64, "pairs of rounds; the median and its bootstrap interval");
    x.cost("watched.more_cpu", ("%", "p50"), median(&more), n, source);
    let seen = Observation::exact(median(&lost), n, source).ci(bootstrap(&lost, RESAMPLES, x.lab.seed, median));
    x.observe("stretch/watched", seen.shown_by(&["watched.with", "watched.without", "watched.more_cpu"]));
    Ok(())
}

async fn unwatched(x: &mut Experiment<'_>) -> Result<Round, RunError> {
    measure(x, &UNWATCHED, Vec::new()).await
}

async fn watched(x: &mut Experiment<'_>, collector: &Collector) -> Result<Round, RunError> {
    let traces =
        ["--otlp-endpoint", &collector.url, "--trace-sampler", "parentbased_traceidratio", "--trace-share", SAMPLED];
    measure(x, &WATCHED, traces.map(str::to_owned).to_vec()).await
}

/// One round: a deployment of its own.
async fn measure(x: &mut Experiment<'_>, row: &LoadRow, flags: Vec<String>) -> Result<Round, RunError> {
    let is_watched = !flags.is_empty();
    let deployment = x.deploy(Plan { agents: vec![fleet::noop()], flags, ..Plan::default() }).await?;
    let api = deployment.api()?;
    let _scraper = is_watched.then(|| Scraper::start(api.client().clone(), api.base()));
    let before = deployment.cpu();
    let caller = |host: &str, seed| TaskCaller { wait: 0, ..TaskCaller::of(host, &fleet::noop().0, seed) };
    let rate = x.drive_to_end(row, Some(&deployment), 1, caller).await?;
    let each = (deployment.cpu() - before) as f64 / 1e6 / rate.n.max(1) as f64;
    Ok((rate.value.unwrap_or(f64::NAN), each))
}

/// A collector of traces that takes everything at once and keeps nothing.
struct Collector {
    url: String,
    /// Ends when it is dropped.
    _accepting: JoinSet<()>,
}

impl Collector {
    async fn start() -> Result<Self, RunError> {
        let failed = |error: std::io::Error| LabError::Server(format!("no collector of traces: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { url, _accepting: accepting })
    }
}

/// Answers the requests of one connection until its end.
async fn answer(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Some(length) = request_length(&buffer).filter(|length| *length <= buffer.len()) {
            buffer.drain(..length);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// Bytes of the request at the start, head and body, once its head is there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(buffer).ok()? else { return None };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    Some(head + length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_collector_answers_each_export_once() {
        let collector = Collector::start().await.unwrap();
        let mut stream = TcpStream::connect(collector.url.trim_start_matches("http://")).await.unwrap();
        let body = "x".repeat(10_000);
        for _ in 0..2 {
            let request = format!("POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; ANSWER.len()];
            tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer, ANSWER);
        }
    }
}
