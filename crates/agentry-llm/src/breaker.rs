//! Circuit breakers: after many failures in a row a model at a provider is not called for a while, then probed with one
//! call. Other calls fail at once or go to a fallback, and do not wait for their timeouts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use tokio::time::Instant;

use crate::LlmError;

/// Failures in a row that open a breaker: more than one call makes with all its retries.
const FAILURES_TO_OPEN: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Largest number of breakers; targets beyond it are never cut off.
const MAX_BREAKERS: usize = 1_024;

/// Unit of failure: provider, host and model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Circuit {
    provider: ProviderKind,
    host: String,
    model: Arc<str>,
}

impl Circuit {
    pub fn of(target: &LlmTarget) -> Self {
        let host = target.base_url.as_deref().map(agentry_http::host).or(target.region.as_deref());
        Self { provider: target.provider, host: host.unwrap_or_default().to_owned(), model: Arc::clone(&target.model) }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    Probing { pause: Duration },
}

#[derive(Debug)]
struct Breaker {
    state: State,
    last_failure: Arc<str>,
}

/// A call that an open breaker refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenCircuit {
    pub wait: Duration,
    pub last_failure: Arc<str>,
}

#[derive(Debug, Default)]
pub(crate) struct Breakers {
    all: Mutex<HashMap<Circuit, Breaker>>,
}

/// A call that may be made. When it is dropped without an outcome, the next call probes.
#[derive(Debug)]
pub(crate) struct Admission {
    breakers: Arc<Breakers>,
    circuit: Circuit,
    is_probe: bool,
}

impl Breakers {
    /// Admits a call.
    ///
    /// # Errors
    /// The breaker is open: the time until the next probe, and the last failure.
    pub fn admit(self: &Arc<Self>, circuit: &Circuit) -> Result<Admission, OpenCircuit> {
        let mut is_probe = false;
        if let Some(breaker) = self.lock().get_mut(circuit) {
            breaker.allows()?;
            if let State::Open { pause, .. } = breaker.state {
                breaker.state = State::Probing { pause };
                is_probe = true;
            }
        }
        Ok(Admission { breakers: Arc::clone(self), circuit: circuit.clone(), is_probe })
    }

    /// Checks whether a call would be admitted, without taking the probe.
    ///
    /// # Errors
    /// The breaker is open: the time until the next probe, and the last failure.
    pub fn allows(&self, circuit: &Circuit) -> Result<(), OpenCircuit> {
        self.lock().get(circuit).map_or(Ok(()), Breaker::allows)
    }

    /// Returns provider and model of each breaker that is not closed.
    pub fn open(&self) -> Vec<(ProviderKind, Arc<str>)> {
        let all = self.lock();
        let open = all.iter().filter(|(_, breaker)| !matches!(breaker.state, State::Closed { .. }));
        open.map(|(circuit, _)| (circuit.provider, Arc::clone(&circuit.model))).collect()
    }

    fn record(&self, circuit: &Circuit, is_probe: bool, outage: Option<&str>) {
        let mut all = self.lock();
        let Some(message) = outage else {
            // Any answer shows that the provider is up.
            all.remove(circuit);
            return;
        };
        if !all.contains_key(circuit) && all.len() >= MAX_BREAKERS {
            return;
        }
        let new = || Breaker { state: State::Closed { failures: 0 }, last_failure: Arc::default() };
        let breaker = all.entry(circuit.clone()).or_insert_with(new);
        breaker.last_failure = message.into();
        let pause = match breaker.state {
            State::Probing { pause } if is_probe => (pause * 2).min(MAX_PAUSE),
            State::Closed { failures } if failures + 1 >= FAILURES_TO_OPEN => FIRST_PAUSE,
            State::Closed { failures } => {
                breaker.state = State::Closed { failures: failures + 1 };
                return;
            }
            // The call began before the breaker opened, so it is no new evidence.
            State::Open { .. } | State::Probing { .. } => return,
        };
        breaker.state = State::Open { until: Instant::now() + pause, pause };
        let Circuit { provider, host, model } = circuit;
        tracing::warn!(%provider, host, model = &**model, ?pause, message, "circuit breaker opened: the model failed too often and is not called until a probe succeeds");
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Circuit, Breaker>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breaker {
    fn allows(&self) -> Result<(), OpenCircuit> {
        let wait = match self.state {
            State::Probing { .. } => PROBE_WAIT,
            State::Open { until, .. } => until.saturating_duration_since(Instant::now()),
            State::Closed { .. } => Duration::ZERO,
        };
        if wait.is_zero() { Ok(()) } else { Err(OpenCircuit { wait, last_failure: Arc::clone(&self.last_failure) }) }
    }
}

impl Admission {
    pub fn record(mut self, failed: Option<&LlmError>) {
        let outage = failed.filter(|error| error.kind.is_outage()).map(|error| error.message.as_str());
        self.breakers.record(&self.circuit, self.is_probe, outage);
        self.is_probe = false;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(breaker) = self.breakers.lock().get_mut(&self.circuit)
            && let State::Probing { pause } = breaker.state
        {
            breaker.state = State::Open { until: Instant::now(), pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::LlmErrorKind;
    use crate::wire::failure::error;

    fn failed(kind: LlmErrorKind) -> LlmError {
        error(&crate::test_call::call(""), kind, "on fire")
    }

    fn circuit() -> Circuit {
        Circuit::of(&crate::test_call::call("http://a:1/v1").target)
    }

    fn fail(breakers: &Arc<Breakers>, times: u32) {
        for _ in 0..times {
            breakers.admit(&circuit()).unwrap().record(Some(&failed(LlmErrorKind::Unavailable)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_outages_in_a_row_and_one_probe_closes_it() {
        let breakers = Arc::new(Breakers::default());
        fail(&breakers, FAILURES_TO_OPEN - 1);
        breakers.admit(&circuit()).unwrap().record(Some(&failed(LlmErrorKind::InvalidRequest)));
        fail(&breakers, FAILURES_TO_OPEN);
        assert_eq!(
            breakers.admit(&circuit()).unwrap_err(),
            OpenCircuit { wait: FIRST_PAUSE, last_failure: "on fire".into() }
        );
        assert_eq!(breakers.open().len(), 1);
        tokio::time::advance(FIRST_PAUSE).await;
        let probe = breakers.admit(&circuit()).unwrap();
        assert!(breakers.admit(&circuit()).is_err(), "one probe at a time");
        probe.record(None);
        assert!(breakers.admit(&circuit()).is_ok() && breakers.open().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_pause_and_one_that_is_dropped_does_not() {
        let breakers = Arc::new(Breakers::default());
        fail(&breakers, FAILURES_TO_OPEN);
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breakers.admit(&circuit()).unwrap());
        breakers.admit(&circuit()).unwrap().record(Some(&failed(LlmErrorKind::Unavailable)));
        assert_eq!(breakers.admit(&circuit()).unwrap_err().wait, FIRST_PAUSE * 2);
    }

    #[test]
    fn other_hosts_and_models_are_other_circuits() {
        let target = crate::test_call::call("http://a:1/v1").target;
        let other = agentry_core::agent::LlmTarget { base_url: Some("http://b:1/v1".into()), ..target.clone() };
        assert_ne!(Circuit::of(&target), Circuit::of(&other));
        let other = agentry_core::agent::LlmTarget { model: "other".into(), ..target.clone() };
        assert_ne!(Circuit::of(&target), Circuit::of(&other));
    }
}
