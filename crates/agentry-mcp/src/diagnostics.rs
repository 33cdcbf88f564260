//! What a server said beside the protocol: the last lines of its standard error and the last fault of its transport.
//! When a connection fails, this tells why; the SDK only tells that it did.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// Lines that are kept.
const MAX_LINES: usize = 5;
/// Secrets shorter than this are no secrets, and would blank out half of every line.
const MIN_SECRET: usize = 6;

/// Notes about one connection.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    kept: Mutex<Kept>,
    secrets: Vec<SecretString>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    fault: Option<String>,
}

impl Notes {
    /// Notes in which these never appear.
    pub fn hiding(secrets: Vec<SecretString>) -> Self {
        Self { kept: Mutex::default(), secrets }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without the secrets that this server was given.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(|s| s.len() >= MIN_SECRET) {
            if text.contains(secret) {
                text = text.replace(secret, "[hidden]");
            }
        }
        text
    }

    /// It wrote a line to its standard error. Returns the line as it may be shown.
    pub fn line(&self, line: &str) -> String {
        let line = self.clean(line);
        let mut kept = self.lock();
        if kept.lines.len() == MAX_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.clone());
        line
    }

    /// Its transport broke, or it does not speak the protocol.
    pub fn fault(&self, fault: &str) {
        let fault = self.clean(fault);
        self.lock().fault = Some(fault);
    }

    /// What is known about the reason for `outcome`.
    pub fn explain(&self, outcome: &str) -> String {
        let outcome = self.clean(outcome);
        let kept = self.lock();
        let mut text = match &kept.fault {
            Some(fault) if !outcome.contains(fault.as_str()) => format!("{outcome}: {fault}"),
            _ => outcome,
        };
        if !kept.lines.is_empty() {
            let lines: Vec<&str> = kept.lines.iter().map(String::as_str).collect();
            text = format!("{text}; its last words: {}", lines.join(" / "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_last_lines_are_kept() {
        let notes = Notes::hiding(vec!["s3cret-token".to_owned().into(), "ab".to_owned().into()]);
        for number in 0..9 {
            notes.line(&format!("line {number} about s3cret-token"));
        }
        notes.fault("refused s3cret-token");
        let text = notes.explain("could not start");
        assert!(text.starts_with("could not start: refused [hidden]; its last words: line 4 about [hidden]"), "{text}");
        assert!(text.ends_with("line 8 about [hidden]"), "{text}");
    }
}
