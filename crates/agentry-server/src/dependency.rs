//! Servers that this process depends on besides the store, as the wiring sees them: the broker, the cache. The ports
//! know nothing of connections; who builds the backends does.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A server that this process can do without for a while.
#[derive(Clone)]
pub struct Dependency {
    /// Its name in `/health/ready` and in metrics.
    pub name: &'static str,
    /// Looks at it: cheap, without IO, also while it is gone.
    pub look: Arc<dyn Fn() -> DependencyState + Send + Sync>,
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a dependency is doing.
#[derive(Debug, Clone, Default)]
pub struct DependencyState {
    /// Whether it is there. When it is not, this process goes on, slower.
    pub up: bool,
    /// What was found, for people.
    pub detail: String,
    /// What was counted.
    pub metrics: Vec<Metric>,
}

/// One number for `/metrics`.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the prefix `agentry_`.
    pub name: &'static str,
    /// What it says, a sentence with its full stop.
    pub help: &'static str,
    /// Whether it only grows: it is then shown with `_total` behind its name.
    pub is_counter: bool,
    /// How much.
    pub value: f64,
}

/// The metrics of servers, looked at when somebody scrapes.
#[derive(Debug)]
pub(crate) struct Looked(pub Vec<Dependency>);

impl Collector for Looked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, help, is_counter, value } in self.0.iter().flat_map(|dependency| (dependency.look)().metrics)
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
