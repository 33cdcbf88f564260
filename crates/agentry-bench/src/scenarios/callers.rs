//! Callers of the platform in scenarios: tasks that wait for their end, and events.

use crate::load::{Answer, Caller, Outcome, by_status, put_post};

use super::loads::trace;

/// One task for each arrival; the answer comes when the task has ended.
#[derive(Debug, Clone)]
pub struct TaskCaller {
    /// Value of the `Host` header.
    pub host: String,
    pub agent: String,
    /// Conversations that the tasks are spread over in turn; none when 0.
    pub sessions: u64,
    /// The number of the first of them: another load of the same agent has others, and its own order in them.
    pub first_session: u64,
    /// Text of the question, followed by the number.
    pub ask: String,
    /// Seconds that a request waits for its task: longer than any load's patience, or 0 for the answer that it is durable.
    pub wait: u32,
    /// Whether the answers of the model are streamed.
    pub is_streamed: bool,
    /// Of the run: makes traces.
    pub seed: u64,
}

impl TaskCaller {
    pub fn of(host: &str, agent: &str, seed: u64) -> Self {
        Self {
            host: host.to_owned(),
            agent: agent.to_owned(),
            sessions: 0,
            first_session: 0,
            ask: "task".to_owned(),
            wait: 60,
            is_streamed: false,
            seed,
        }
    }
}

impl Caller for TaskCaller {
    fn request(&mut self, number: u64, _: u64, out: &mut Vec<u8>) {
        let Self { agent, ask, .. } = self;
        let path = if self.wait > 0 { format!("/v1/tasks?wait={}", self.wait) } else { "/v1/tasks".to_owned() };
        let session = match self.sessions {
            0 => String::new(),
            all => format!(",\"session\":\"s{}\"", self.first_session + number % all),
        };
        let stream = if self.is_streamed { ",\"stream\":true" } else { "" };
        let body = format!("{{\"agent\":\"{agent}\",\"input\":\"{ask} {number}\"{session}{stream}}}");
        let parent = format!("00-{}-00000000000000aa-01", trace(self.seed, number));
        put_post(out, &self.host, &path, &[("traceparent", &parent)], body.as_bytes());
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        match answer.status {
            200 if has(answer.body, b"\"status\":\"completed\"") => Outcome::Ok,
            200 => Outcome::Failed("task did not complete"),
            202 if self.wait > 0 => Outcome::Failed("task did not end in time"),
            status => by_status(status),
        }
    }
}

/// Batches of tasks; the answer comes when they are durable.
#[derive(Debug, Clone)]
pub struct BatchCaller {
    pub bytes: Vec<u8>,
}

impl BatchCaller {
    /// So many tasks of an agent each time.
    pub fn of(host: &str, agent: &str, size: usize) -> Self {
        let tasks: Vec<String> =
            (0..size).map(|n| format!("{{\"agent\":\"{agent}\",\"input\":\"task {n}\"}}")).collect();
        let body = format!("{{\"tasks\":[{}]}}", tasks.join(","));
        let mut bytes = Vec::new();
        put_post(&mut bytes, host, "/v1/tasks/batch", &[], body.as_bytes());
        Self { bytes }
    }
}

impl Caller for BatchCaller {
    fn request(&mut self, _: u64, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        match answer.status {
            200 | 202 if has(answer.body, b"\"refused\":0") => Outcome::Ok,
            200 | 202 => Outcome::Refused,
            status => by_status(status),
        }
    }
}

/// Tells whether `body` contains `wanted`.
pub fn has(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

/// The digits that follow a key in JSON, as in `"n":12`.
pub fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let start = text.windows(key.len()).position(|window| window == key)? + key.len();
    let digits: Vec<u8> = text[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_key() {
        assert_eq!(number_after(br#"{"data":{"n":12,"t0":345}}"#, b"\"t0\":"), Some(345));
        assert_eq!(number_after(br#"{"n":"x"}"#, b"\"n\":"), None);
    }

    #[test]
    fn a_task_that_failed_is_no_success() {
        let mut tasks = TaskCaller::of("h", "a", 1);
        let answer = |status, body| Answer { number: 0, status, body, intended: 0, received: 1 };
        assert_eq!(tasks.judge(&answer(200, b"{\"status\":\"completed\"}")), Outcome::Ok);
        assert_eq!(tasks.judge(&answer(200, b"{\"status\":\"failed\"}")), Outcome::Failed("task did not complete"));
        assert_eq!(tasks.judge(&answer(503, b"")), Outcome::Refused);
        let mut out = Vec::new();
        (tasks.sessions, tasks.first_session) = (3, 40);
        tasks.request(7, 0, &mut out);
        assert!(
            has(&out, b"\"session\":\"s41\"") && has(&out, b"traceparent: 00-"),
            "{}",
            String::from_utf8_lossy(&out)
        );
    }
}
