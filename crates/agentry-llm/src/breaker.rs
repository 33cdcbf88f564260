//! Circuit breakers: a model at a provider that failed many times in a row is left alone for a while, then tried by one
//! call. Calls that would only wait for their timeouts fail at once, or go to a fallback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use tokio::time::Instant;

use crate::LlmErrorKind;

/// Outages in a row that open a breaker: more than one call makes with all its retries.
const FAILURES_TO_OPEN: u32 = 10;
/// How long a breaker stays open at first; it doubles with every probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that a breaker stays open.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// When to ask again while somebody else's probe is under way.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Breakers at most; targets beyond are never cut off.
const MAX_BREAKERS: usize = 1_024;

/// Provider, host and model: what fails together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Circuit {
    provider: ProviderKind,
    host: String,
    model: Arc<str>,
}

impl Circuit {
    /// That of a target.
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

/// All breakers of a process.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    states: Mutex<HashMap<Circuit, State>>,
}

/// A call that may be made. Dropped without an outcome it leaves the next call to find out.
#[derive(Debug)]
pub(crate) struct Admission {
    breakers: Arc<Breakers>,
    circuit: Circuit,
    is_probe: bool,
}

impl Breakers {
    /// Whether a call may be made now.
    ///
    /// # Errors
    /// How long not.
    pub fn admit(self: &Arc<Self>, circuit: &Circuit) -> Result<Admission, Duration> {
        let now = Instant::now();
        let mut states = self.lock();
        let is_probe = match states.get(circuit).copied() {
            None | Some(State::Closed { .. }) => false,
            Some(State::Probing { .. }) => return Err(PROBE_WAIT),
            Some(State::Open { until, .. }) if now < until => return Err(until - now),
            Some(State::Open { pause, .. }) => {
                states.insert(circuit.clone(), State::Probing { pause });
                true
            }
        };
        drop(states);
        Ok(Admission { breakers: Arc::clone(self), circuit: circuit.clone(), is_probe })
    }

    /// Whether a call could be made now, without claiming to make it.
    ///
    /// # Errors
    /// How long not.
    pub fn allows(&self, circuit: &Circuit) -> Result<(), Duration> {
        match self.lock().get(circuit) {
            Some(State::Probing { .. }) => Err(PROBE_WAIT),
            Some(State::Open { until, .. }) if Instant::now() < *until => Err(*until - Instant::now()),
            _ => Ok(()),
        }
    }

    /// The provider and model of each breaker that is not closed.
    pub fn open(&self) -> Vec<(ProviderKind, Arc<str>)> {
        let states = self.lock();
        let open = states.iter().filter(|(_, state)| !matches!(state, State::Closed { .. }));
        open.map(|(circuit, _)| (circuit.provider, Arc::clone(&circuit.model))).collect()
    }

    fn record(&self, circuit: &Circuit, is_probe: bool, is_outage: bool) {
        let mut states = self.lock();
        let is_known = states.contains_key(circuit);
        if !is_known && (!is_outage || states.len() >= MAX_BREAKERS) {
            return;
        }
        let state = states.entry(circuit.clone()).or_insert(State::Closed { failures: 0 });
        let next = match (*state, is_outage) {
            (State::Probing { pause }, true) if is_probe => opened((pause * 2).min(MAX_PAUSE)),
            (State::Closed { failures }, true) if failures + 1 >= FAILURES_TO_OPEN => opened(FIRST_PAUSE),
            (State::Closed { failures }, true) => State::Closed { failures: failures + 1 },
            // A call from before it was opened says nothing new; an answer always does.
            (state, true) => state,
            (_, false) => State::Closed { failures: 0 },
        };
        if let (State::Open { pause, .. }, State::Closed { .. } | State::Probing { .. }) = (next, *state) {
            let Circuit { provider, host, model } = circuit;
            tracing::warn!(%provider, host, model = &**model, ?pause, "a model stays down and is left alone for a while");
        }
        *state = next;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Circuit, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn opened(pause: Duration) -> State {
    State::Open { until: Instant::now() + pause, pause }
}

impl Admission {
    /// The call ended.
    pub fn ended(mut self, failed: Option<LlmErrorKind>) {
        let is_outage = failed.is_some_and(LlmErrorKind::is_outage);
        self.breakers.record(&self.circuit, self.is_probe, is_outage);
        self.is_probe = false;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(state @ State::Probing { .. }) = self.breakers.lock().get_mut(&self.circuit)
            && let State::Probing { pause } = *state
        {
            *state = State::Open { until: Instant::now(), pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Option<LlmErrorKind> = Some(LlmErrorKind::Unavailable);

    fn circuit() -> Circuit {
        Circuit::of(&crate::test_call::call("http://a:1/v1").target)
    }

    fn fail(breakers: &Arc<Breakers>, times: u32) {
        for _ in 0..times {
            breakers.admit(&circuit()).unwrap().ended(DOWN);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_outages_in_a_row_and_one_probe_closes_it() {
        let breakers = Arc::new(Breakers::default());
        fail(&breakers, FAILURES_TO_OPEN - 1);
        breakers.admit(&circuit()).unwrap().ended(Some(LlmErrorKind::InvalidRequest));
        fail(&breakers, FAILURES_TO_OPEN);
        assert_eq!(breakers.admit(&circuit()).unwrap_err(), FIRST_PAUSE);
        assert_eq!(breakers.open().len(), 1);
        tokio::time::advance(FIRST_PAUSE).await;
        let probe = breakers.admit(&circuit()).unwrap();
        assert!(breakers.admit(&circuit()).is_err(), "one probe at a time");
        probe.ended(None);
        assert!(breakers.admit(&circuit()).is_ok() && breakers.open().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_pause_and_one_that_is_dropped_does_not() {
        let breakers = Arc::new(Breakers::default());
        fail(&breakers, FAILURES_TO_OPEN);
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breakers.admit(&circuit()).unwrap());
        breakers.admit(&circuit()).unwrap().ended(DOWN);
        assert_eq!(breakers.admit(&circuit()).unwrap_err(), FIRST_PAUSE * 2);
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
