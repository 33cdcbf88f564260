//! Exports spans to a collector from a bounded queue. If the collector is slow or down, spans are dropped and counted;
//! work is never delayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentry_config::TraceSettings;
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The most queued spans; more are dropped. A span has about 1 KiB.
const MAX_WAITING: usize = 8_192;
/// Spans in one request (OpenTelemetry's default).
const MAX_BATCH: usize = 512;
/// The time that a span waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// Time for one request (OpenTelemetry's default).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the last flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Receives ended spans.
#[derive(Clone)]
pub struct SpanSink {
    queue: mpsc::Sender<SpanData>,
    lost: Arc<AtomicU64>,
}

impl SpanSink {
    /// Never waits: without room the span is lost.
    pub fn send(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Exports spans to a collector.
pub struct Exporter {
    sink: SpanSink,
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

impl Exporter {
    /// Starts the export, if the settings have a collector.
    pub fn start(settings: &TraceSettings) -> Result<Option<Self>, Failure> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let url = format!("{endpoint}/v1/traces");
        let unusable = |error: &dyn std::error::Error| {
            let why = agentry_http::with_causes(error);
            Failure::usage(format!("traces cannot be sent to {endpoint}: {why}")).help("see docs/observability.md")
        };
        let client = agentry_http::builder(&url).timeout(TIMEOUT).build().map_err(|error| unusable(&error))?;
        let mut otlp = Otlp::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .build()
            .map_err(|error| unusable(&error))?;
        otlp.set_resource(&Resource::builder().with_service_name(settings.service.clone()).build());
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let (lost, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let worker = ExportWorker {
            waiting,
            otlp,
            lost: Arc::clone(&lost),
            reported: 0,
            endpoint: endpoint.clone(),
            stop: stop.clone(),
        };
        let sending = tokio::spawn(worker.run());
        Ok(Some(Self { sink: SpanSink { queue, lost }, stop, sending }))
    }

    /// Returns the sink for ended spans.
    pub fn sink(&self) -> SpanSink {
        self.sink.clone()
    }

    /// Flushes queued spans within [`FLUSH_TIMEOUT`] and stops.
    pub async fn stop(self) {
        self.stop.cancel();
        let abort = self.sending.abort_handle();
        if timeout(FLUSH_TIMEOUT, self.sending).await.is_err() {
            abort.abort();
            tracing::warn!("the last spans were not sent: the collector did not take them in time");
        }
    }
}

struct ExportWorker {
    waiting: mpsc::Receiver<SpanData>,
    otlp: Otlp,
    lost: Arc<AtomicU64>,
    /// Dropped spans that were logged.
    reported: u64,
    endpoint: String,
    stop: CancellationToken,
}

impl ExportWorker {
    async fn run(mut self) {
        loop {
            let batch = self.next().await;
            if batch.is_empty() {
                return;
            }
            let count = u64::try_from(batch.len()).unwrap_or(0);
            let problem = self.otlp.export(batch).await.err();
            if problem.is_some() {
                self.lost.fetch_add(count, Ordering::Relaxed);
            }
            let lost = self.lost.load(Ordering::Relaxed);
            if lost > self.reported {
                self.reported = lost;
                let why = problem.map_or_else(|| "more came than it took".to_owned(), |error| error.to_string());
                tracing::warn!(
                    collector = self.endpoint,
                    lost,
                    why,
                    "spans are lost: the collector does not take them"
                );
            }
        }
    }

    /// Returns the next batch; empty at the end.
    async fn next(&mut self) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < MAX_BATCH {
            let linger = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                received = self.waiting.recv_many(&mut batch, room) => {
                    if received == 0 {
                        break;
                    }
                    until.get_or_insert_with(|| Instant::now() + LINGER);
                }
                () = linger => break,
            }
        }
        batch
    }
}
