//! Money is an integer: nano-dollars. One ledger row per provider call; sums are taken from rows. The prices of calls
//! are in [`crate::prices`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::{AgentName, ProviderKind};
use crate::chat::Usage;
use crate::id::{CallId, TaskId};
use crate::time::Timestamp;

/// Billionths of a US dollar. A million tokens at one nano-dollar each cost $0.001.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// Returns the sum; saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Reads a decimal number of dollars exactly, for example `0.25`.
    ///
    /// # Errors
    /// Fails when it is not a decimal number, is negative, has more than nine decimals, or is too large.
    pub fn parse_usd(text: &str) -> Result<Self, InvalidAmount> {
        let bad = || InvalidAmount(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
            return Err(bad());
        }
        let dollars: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        dollars.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).map(Self).ok_or_else(bad)
    }
}

/// Text that is not an amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount in dollars: expected a number such as 0.25, with at most nine decimals")]
pub struct InvalidAmount(pub String);

impl fmt::Display for NanoUsd {
    /// Dollars with six decimals, or nine where six would hide something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (dollars, nanos) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        if nanos % 1_000 == 0 {
            write!(f, "{sign}${dollars}.{:06}", nanos / 1_000)
        } else {
            write!(f, "{sign}${dollars}.{nanos:09}")
        }
    }
}

/// The result of a provider call, as far as billing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// A complete answer.
    Completed = 0,
    /// An error or an incomplete answer; `usage` is what the provider counted until then.
    Failed = 1,
    /// A complete answer whose tokens the provider did not count: what was set aside for it is charged.
    Estimated = 2,
}

/// The record of one provider call, paid or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The call; unique.
    pub call: CallId,
    /// Task that made the call.
    pub task: TaskId,
    /// Agent that made the call.
    pub agent: AgentName,
    /// The provider.
    pub provider: ProviderKind,
    /// Requested model.
    pub model: String,
    /// The provider's id of the call, as its exports show it; `None` if it sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_call: Option<Box<str>>,
    /// Result of the call.
    pub status: CallStatus,
    /// Tokens as the provider counted them.
    pub usage: Usage,
    /// Cost; `None` is *unpriced*: the model has no price and none is guessed.
    pub cost: Option<NanoUsd>,
    /// Time of the end of the call.
    pub at: Timestamp,
    /// Duration, in microseconds.
    pub duration_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_and_shown_exactly() {
        assert_eq!(NanoUsd::parse_usd("0.25").unwrap(), NanoUsd(250_000_000));
        assert_eq!(NanoUsd::parse_usd("12").unwrap(), NanoUsd(12_000_000_000));
        assert_eq!(NanoUsd::parse_usd(".000000001").unwrap(), NanoUsd(1));
        for bad in ["", ".", "-1", "1e3", "0.0000000001", "99999999999999", "NaN"] {
            assert!(NanoUsd::parse_usd(bad).is_err(), "{bad}");
        }
        assert_eq!(NanoUsd(41_000).to_string(), "$0.000041");
        assert_eq!(NanoUsd(41_500).to_string(), "$0.000041500");
    }
}
