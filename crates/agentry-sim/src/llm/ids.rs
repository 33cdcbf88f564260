//! Ids of one request. They are unique over all runs of the simulator, so that ledgers of several runs can be merged.

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

    pub(super) fn call(&self, kind: &str, index: usize) -> String {
        format!("{kind}{}{index:02}", self.digits())
    }

    pub(super) fn uuid(&self) -> String {
        let digits = format!("{:014x}{:016x}", self.boot, self.n);
        let (first, second, third) = (&digits[..8], &digits[8..12], &digits[12..15]);
        format!("{first}-{second}-4{third}-8{}-{}", &digits[15..18], &digits[18..])
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
        assert_ne!(ids[0].call("call_", 0), ids[0].call("call_", 1));
    }
}
