//! What can go wrong on purpose: faults by name, and with which share of requests they happen.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::latency::draw;

/// Between two pieces of an answer that drips, when nothing else is said.
pub(super) const DRIP_INTERVAL: Duration = Duration::from_millis(20);
/// Shares are told from one another by this many random bits.
const SHARE_BITS: u32 = 53;
/// Every fault with a name of its own.
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

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error with this HTTP status in place of an answer.
    Fail(u16),
    /// No answer, ever.
    Hang,
    /// A page of HTML, as a proxy answers.
    Html,
    /// The connection is closed in the middle of the answer.
    Truncate,
    /// In the middle of the answer comes something that is no frame, or no JSON.
    Garble,
    /// The answer comes in small pieces that respect no frame, with so much time between two.
    Drip(Duration),
    /// The answer never ends.
    Endless,
    /// The connection is closed before anything is answered.
    Disconnect,
    /// A stream ends in the middle with the provider's own report of an error, of the kind of this HTTP status.
    Break(u16),
}

impl Fault {
    /// The fault of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(word, _)| *word == name).map(|(_, fault)| *fault)
    }
}

/// A fault and how often it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultRate {
    /// What.
    pub fault: Fault,
    /// Its share of all requests, from 0 to 1.
    pub share: f64,
}

impl FromStr for FaultRate {
    type Err = String;

    /// `KIND=SHARE`: a name, or an HTTP status from 400 to 599.
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

/// The fault of request `n`, if any: the shares lie side by side, so they add up.
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
