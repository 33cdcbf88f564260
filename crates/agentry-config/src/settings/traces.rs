//! Settings of traces, named by OpenTelemetry's own variables.

use agentry_core::trace::{EVERY_TRACE, Sampling};

use super::value::Parsed;

/// The destination of spans, and their sampling.
#[derive(Debug, Clone, Default)]
pub struct TraceSettings {
    /// OTLP address of the collector; `None` disables spans.
    pub endpoint: Option<String>,
    /// Service name of the spans.
    pub service: String,
    /// Sampler.
    pub sampler: Sampler,
    /// Share of traces that a ratio sampler keeps, from 0 to 1.
    pub share: f64,
}

/// A sampler of OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sampler {
    roots: Roots,
    follows_parent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Roots {
    #[default]
    All,
    None,
    Share,
}

impl TraceSettings {
    /// Returns the sampling decision.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        if self.endpoint.is_none() {
            return Sampling::Off;
        }
        let share = match self.sampler.roots {
            Roots::All => EVERY_TRACE,
            Roots::None => 0,
            Roots::Share => share_of(self.share),
        };
        Sampling::On { share, follows_parent: self.sampler.follows_parent }
    }
}

/// Returns a share from 0 to 1 in units of [`EVERY_TRACE`].
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "2^63 is exact, and the product lies between 0 and it"
)]
fn share_of(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * EVERY_TRACE as f64) as u64
}

/// Parses a value of `OTEL_TRACES_SAMPLER`.
pub(super) fn sampler(text: &str) -> Parsed<Sampler> {
    let (roots, follows_parent) = match text {
        "always_on" => (Roots::All, false),
        "always_off" => (Roots::None, false),
        "traceidratio" => (Roots::Share, false),
        "parentbased_always_on" => (Roots::All, true),
        "parentbased_always_off" => (Roots::None, true),
        "parentbased_traceidratio" => (Roots::Share, true),
        _ => return Err("expected always_on, always_off, traceidratio, or one of these after parentbased_".into()),
    };
    Ok(Sampler { roots, follows_parent })
}

/// Parses a number from 0 to 1.
pub(super) fn share(text: &str) -> Parsed<f64> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_what_their_names_say() {
        let sampling = |word: &str, share: f64| {
            let endpoint = Some("http://127.0.0.1:4318".to_owned());
            let sampler = sampler(word).expect("a sampler");
            TraceSettings { endpoint, service: String::new(), sampler, share }.sampling()
        };
        let on = |share, follows_parent| Sampling::On { share, follows_parent };
        assert_eq!(sampling("parentbased_always_on", 0.0), Sampling::ALL);
        assert_eq!(sampling("always_off", 1.0), on(0, false));
        assert_eq!(sampling("traceidratio", 0.5), on(EVERY_TRACE / 2, false));
        assert_eq!(sampling("parentbased_traceidratio", 1.0), Sampling::ALL);
        assert_eq!(TraceSettings::default().sampling(), Sampling::Off, "nowhere to send them");
        assert!(sampler("sometimes").is_err() && share("2").is_err() && share("NaN").is_err());
    }
}
