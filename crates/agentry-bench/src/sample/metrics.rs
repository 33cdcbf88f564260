//! The platform's own metrics, read from `/metrics` by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::sampler::lock;
use crate::load::clock::now;

/// Interval of scrapes: each one asks the platform's store, so they are rarer than samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Largest number of scrapes kept; later ones replace the oldest.
const MAX_SCRAPES: usize = 100_000;

/// Values by their name with labels, as in `agentry_tasks{status="queued"}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Parses Prometheus' text format. Lines that do not parse are skipped.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.trim().to_owned(), value.trim().parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// Returns the value of a name with labels.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Returns the sum over all labels of a name; `None` when it has no line.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut found = self.0.iter().filter(|(line, _)| line.split('{').next() == Some(name)).peekable();
        found.peek().is_some().then(|| found.map(|(_, value)| value).sum())
    }

    /// Returns the values whose name with labels begins so, by the rest of it.
    pub fn starting_with<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let from = self.0.range(start.to_owned()..);
        from.map_while(move |(name, value)| Some((name.strip_prefix(start)?, *value)))
    }
}

type Scrapes = Arc<Mutex<Vec<(u64, Metrics)>>>;

/// Scrapes `/metrics` of a process every second until it is dropped.
pub struct Scraper {
    scrapes: Scrapes,
    /// Ends when it is dropped.
    _task: JoinSet<()>,
}

impl Scraper {
    /// Starts to scrape the platform at its base URL. Failed scrapes are left out: the process may be down on purpose.
    pub fn start(client: reqwest::Client, base: &str) -> Self {
        let scrapes = Scrapes::default();
        let (url, kept) = (format!("{base}/metrics"), Arc::clone(&scrapes));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Ok(response) = client.get(&url).timeout(INTERVAL * 5).send().await else { continue };
                let Ok(text) = response.text().await else { continue };
                let mut kept = lock(&kept);
                if kept.len() == MAX_SCRAPES {
                    kept.remove(0);
                }
                kept.push((now(), Metrics::parse(&text)));
            }
        });
        Self { scrapes, _task: task }
    }

    /// Returns the values of one name over time, as (nanoseconds, value).
    pub fn series(&self, name: &str) -> Vec<(u64, f64)> {
        let scrapes = lock(&self.scrapes);
        scrapes
            .iter()
            .filter_map(|(at, metrics)| Some((*at, metrics.get(name).or_else(|| metrics.sum(name))?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_name() {
        let text = "# HELP a b\n# TYPE a gauge\na{status=\"queued\"} 3\na{status=\"running\"} 4.5\nb 1\nbroken\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a{status=\"queued\"}"), Some(3.0));
        assert_eq!((metrics.sum("a"), metrics.sum("b"), metrics.sum("c")), (Some(7.5), Some(1.0), None));
        let of_a: Vec<_> = metrics.starting_with("a{status=").collect();
        assert_eq!(of_a, [("\"queued\"}", 3.0), ("\"running\"}", 4.5)]);
    }
}
