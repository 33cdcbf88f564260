//! Requests of a load, and the judgement of their answers.

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Ok,
    /// Refused with 429 or 503: overload that is handled.
    Refused,
    /// Anything else, by class.
    Failed(&'static str),
}

/// A complete response of the server.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The number of the request, from 0.
    pub number: u64,
    pub status: u16,
    /// Body without its transfer coding.
    pub body: &'a [u8],
    /// Intended moment of the send, on the monotonic clock in nanoseconds.
    pub intended: u64,
    /// Moment at which it was complete, likewise.
    pub received: u64,
}

/// Builds requests and judges answers. It runs on the thread that keeps time and must not block.
pub trait Caller: Send {
    /// Appends the whole request with this number to `out`.
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>);

    /// Judges an answer.
    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        by_status(answer.status)
    }

    /// Takes note of a request whose outcome is unknown: no answer in time, or the connection broke after the send.
    fn unknown(&mut self, number: u64) {
        let _ = number;
    }
}

/// Judges by status: 2xx is a success, 429 and 503 are refusals, all else is a failure of its class.
pub fn by_status(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Ok,
        429 | 503 => Outcome::Refused,
        400..=499 => Outcome::Failed("4xx"),
        500..=599 => Outcome::Failed("5xx"),
        _ => Outcome::Failed("other status"),
    }
}

/// Sends the same request each time.
#[derive(Debug, Clone)]
pub struct Fixed(pub Vec<u8>);

impl Caller for Fixed {
    fn request(&mut self, _: u64, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}
