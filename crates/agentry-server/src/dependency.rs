//! The servers that this process depends on besides the store, such as broker and cache. The binary provides them,
//! because the ports hide connections.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A server that this process can run without for a while.
#[derive(Clone)]
pub struct Dependency {
    /// Its name in `/health/ready` and in metrics.
    pub name: &'static str,
    /// Returns its state: cheap and without IO, also while it is down.
    pub probe: Arc<dyn Fn() -> DependencyState + Send + Sync>,
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The state of a dependency.
#[derive(Debug, Clone, Default)]
pub struct DependencyState {
    /// True if it is up. This process also works without it, more slowly.
    pub up: bool,
    /// A description for people.
    pub detail: String,
    /// Its metrics.
    pub metrics: Vec<DependencyMetric>,
}

/// A metric of a dependency.
#[derive(Debug, Clone, Copy)]
pub struct DependencyMetric {
    /// Its name, with the prefix `agentry_`.
    pub name: &'static str,
    /// The help text, a sentence with a full stop.
    pub help: &'static str,
    /// True if it is a counter, which is exported with the suffix `_total`.
    pub is_counter: bool,
    /// The value.
    pub value: f64,
}

/// Collects the metrics of dependencies on each scrape.
#[derive(Debug)]
pub(crate) struct DependencyCollector(pub Vec<Dependency>);

impl Collector for DependencyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for DependencyMetric { name, help, is_counter, value } in
            self.0.iter().flat_map(|dependency| (dependency.probe)().metrics)
        {
            if is_counter {
                let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                ConstCounter::new(value).encode(encoder)?;
            } else {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}
