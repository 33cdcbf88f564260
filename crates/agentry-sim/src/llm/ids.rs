//! Ids of one request. They are unique over all runs of the simulator, so that ledgers of several runs can be merged.

use super::fingerprint::RequestPrint;

/// Digits of a call's id before what tells of its reasoning.
const CALL_DIGITS: usize = 26;

/// Start time of the simulator and number of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    boot: u64,
    /// Number of the request, from 1, in the order of arrival.
    pub(super) n: u64,
}

impl Ids {
    pub(super) fn new(boot: u64, n: u64) -> Self {
        Self { boot, n }
    }

    /// 24 digits.
    pub(super) fn digits(&self) -> String {
        format!("{:014x}{:010x}", self.boot, self.n)
    }

    pub(super) fn named(&self, kind: &str) -> String {
        format!("{kind}{}", self.digits())
    }

    /// Returns the id of a call. It says, when the model reasoned before, which model and what about, so that a later
    /// request shows whether that came back.
    pub(super) fn call(&self, kind: &str, index: usize, thought: Option<Thought>) -> String {
        let call = format!("{kind}{}{index:02}", self.digits());
        match thought {
            Some(Thought { model, text }) => format!("{call}t{model:04x}{text:04x}"),
            None => call,
        }
    }

    pub(super) fn uuid(&self) -> String {
        let digits = format!("{:014x}{:016x}", self.boot, self.n);
        let (first, second, third) = (&digits[..8], &digits[8..12], &digits[12..15]);
        format!("{first}-{second}-4{third}-8{}-{}", &digits[15..18], &digits[18..])
    }
}

/// Reasoning that came before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thought {
    model: u16,
    text: u16,
}

impl Thought {
    /// Describes the reasoning of a model; `None` when there is none.
    pub(super) fn of(model: &str, text: &str) -> Option<Self> {
        let low = |text: &str| u16::try_from(RequestPrint::default().text(text).short() & 0xffff).unwrap_or(0);
        (!text.is_empty()).then(|| Self { model: low(model), text: low(text) })
    }

    /// Reads the id of a call; `None` when nothing was thought before it or another model made it.
    pub(super) fn before(call: &str, model: &str) -> Option<Self> {
        let (_, digits) = call.rsplit_once('t').filter(|(id, digits)| {
            let tail = id.get(id.len().saturating_sub(CALL_DIGITS)..).unwrap_or_default();
            tail.len() == CALL_DIGITS && digits.len() == 8 && tail.bytes().all(|digit| digit.is_ascii_hexdigit())
        })?;
        let half = |range: std::ops::Range<usize>| u16::from_str_radix(digits.get(range)?, 16).ok();
        let thought = Self { model: half(0..4)?, text: half(4..8)? };
        (Some(thought.model) == Self::of(model, "x").map(|own| own.model)).then_some(thought)
    }

    /// Returns true when this text is what was thought.
    pub(super) fn is(self, text: &str) -> bool {
        Self::of("", text).is_some_and(|other| other.text == self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_different_runs_and_requests_differ() {
        let ids = [Ids::new(1, 1), Ids::new(1, 2), Ids::new(2, 1)];
        assert_eq!(ids[0].named("msg_"), "msg_000000000000010000000001");
        assert_eq!(ids[0].uuid(), "00000000-0000-4010-8000-000000000001");
        assert!(ids[0].uuid() != ids[1].uuid() && ids[0].uuid() != ids[2].uuid());
        assert_ne!(ids[0].call("call_", 0, None), ids[0].call("call_", 1, None));
    }

    #[test]
    fn the_id_of_a_call_tells_what_was_thought_before() {
        let id = Ids::new(1, 1).call("call_", 0, Thought::of("m", "so"));
        assert_eq!(id.len(), 40, "OpenAI takes no longer one: {id}");
        let thought = Thought::before(&id, "m").unwrap();
        assert!(thought.is("so") && !thought.is("no"));
        assert_eq!(Thought::before(&id, "other"), None);
        for id in [Ids::new(1, 1).call("call_", 0, None).as_str(), "t00000000", "call_1", "tooluse_abct12345678", ""] {
            assert_eq!(Thought::before(id, "m"), None, "{id}");
        }
    }
}
