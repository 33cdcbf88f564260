//! What is asked, and what an answer is worth.

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Ok,
    /// The platform said no and when to come back (429, 503): overload that is handled.
    Refused,
    /// Anything else, by class.
    Failed(&'static str),
}

/// A whole answer of the server.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The number of the request, from 0.
    pub number: u64,
    /// The HTTP status.
    pub status: u16,
    /// The body, without its transfer coding.
    pub body: &'a [u8],
    /// When it was meant to be sent, on the monotonic clock in nanoseconds.
    pub intended: u64,
    /// When it was whole here.
    pub received: u64,
}

/// Makes requests and judges answers. It runs on the thread that keeps time: it must not block.
pub trait Caller: Send {
    /// Appends the whole request with this number to `out`.
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>);

    /// What an answer is worth.
    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        by_status(answer.status)
    }

    /// A request whose outcome is unknown: no answer in time, or the connection broke after the send.
    fn unknown(&mut self, number: u64) {
        let _ = number;
    }
}

/// 2xx is well, 429 and 503 are refusals, all else is a failure of its class.
#[must_use]
pub fn by_status(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Ok,
        429 | 503 => Outcome::Refused,
        400..=499 => Outcome::Failed("4xx"),
        500..=599 => Outcome::Failed("5xx"),
        _ => Outcome::Failed("other status"),
    }
}

/// The same request each time.
#[derive(Debug, Clone)]
pub struct Fixed(pub Vec<u8>);

impl Caller for Fixed {
    fn request(&mut self, _: u64, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}
