//! Faults that are injected on purpose: their names, and the share of requests they hit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::latency::draw;

/// Default interval of `[[drip]]`.
pub(super) const DRIP_INTERVAL: Duration = Duration::from_millis(20);
/// Random bits that decide whether a request is hit.
const SHARE_BITS: u32 = 53;
const NAMED: [(&str, Fault); 8] = [
    ("hang", Fault::Hang),
    ("html", Fault::Html),
    ("truncate", Fault::Truncate),
    ("garble", Fault::Garble),
    ("drip", Fault::Drip(DRIP_INTERVAL)),
    ("endless", Fault::Endless),
    ("disconnect", Fault::Disconnect),
    ("break", Fault::Break(500)),
];

/// A fault that the simulator injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this HTTP status.
    Fail(u16),
    /// Never answers.
    Hang,
    /// Answers with a page of HTML, as a proxy does.
    Html,
    /// Closes the connection in the middle of the answer.
    Truncate,
    /// Sends an invalid frame, or invalid JSON, in the middle of the answer.
    Garble,
    /// Sends the answer in small pieces that ignore frame borders, with this time between two.
    Drip(Duration),
    /// Never ends the answer.
    Endless,
    /// Closes the connection before the first byte of the answer.
    Disconnect,
    /// Ends a stream in the middle with the provider's error event for this HTTP status.
    Break(u16),
}

impl Fault {
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(word, _)| *word == name).map(|(_, fault)| *fault)
    }
}

/// A fault and the share of requests that it hits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultRate {
    /// Injected fault.
    pub fault: Fault,
    /// Share of all requests, from 0 to 1.
    pub share: f64,
}

impl FromStr for FaultRate {
    type Err = String;

    /// Parses `KIND=SHARE`, where `KIND` is a fault's name or an HTTP status from 400 to 599.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, share) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not KIND=SHARE, such as 429=0.01"))?;
        let status = kind.parse().ok().filter(|status| (400..600).contains(status)).map(Fault::Fail);
        let fault = Fault::named(kind).or(status).ok_or_else(|| {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            format!("there is no fault `{kind}`: expected a status from 400 to 599, {}", names.join(", "))
        })?;
        let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or_else(|| format!("the share in `{text}` is not a number from 0 to 1"))?;
        Ok(Self { fault, share })
    }
}

impl fmt::Display for FaultRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}={}", self.fault, self.share)
    }
}

/// Draws the fault of request `n`, if any. The shares of several rates add up.
pub(super) fn drawn(rates: &[FaultRate], seed: u64, n: u64) -> Option<Fault> {
    let mut at = (draw(seed, n) >> (u64::BITS - SHARE_BITS)) as f64 / (1_u64 << SHARE_BITS) as f64;
    rates.iter().find_map(|rate| {
        let hit = at < rate.share;
        at -= rate.share;
        hit.then_some(rate.fault)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_what_is_none_is_named() {
        let read = |text: &str| text.parse::<FaultRate>();
        assert_eq!(read("529=0.5"), Ok(FaultRate { fault: Fault::Fail(529), share: 0.5 }));
        assert_eq!(read("hang=1"), Ok(FaultRate { fault: Fault::Hang, share: 1.0 }));
        for (text, problem) in [
            ("hang", "KIND=SHARE"),
            ("200=1", "no fault `200`"),
            ("html=2", "from 0 to 1"),
            ("html=NaN", "from 0 to 1"),
        ] {
            assert!(read(text).unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn shares_add_up_are_met_and_depend_on_the_seed_only() {
        let rates = [FaultRate { fault: Fault::Fail(500), share: 0.1 }, FaultRate { fault: Fault::Hang, share: 0.2 }];
        let count = |seed, fault| (0..10_000).filter(|n| drawn(&rates, seed, *n) == fault).count();
        assert!((900..1_100).contains(&count(1, Some(Fault::Fail(500)))));
        assert!((1_850..2_150).contains(&count(1, Some(Fault::Hang))));
        assert!((6_800..7_200).contains(&count(1, None)));
        assert_eq!(count(1, None), count(1, None));
        let always = [FaultRate { fault: Fault::Html, share: 1.0 }];
        assert!((0..1_000).all(|n| drawn(&always, 3, n) == Some(Fault::Html)));
    }
}
