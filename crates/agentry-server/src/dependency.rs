//! Servers that this process depends on besides the store, as the wiring sees them: the broker, the cache. The ports
//! know nothing of connections; who builds the backends does.

use std::fmt;
use std::sync::Arc;

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
    /// What was counted with labels, in Prometheus' text format; the names begin with `agentry_`.
    pub exposition: String,
}

/// One number for `/metrics`.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the prefix `agentry_`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it only grows (its name then ends with `_total`).
    pub is_counter: bool,
    /// How much.
    pub value: f64,
}
