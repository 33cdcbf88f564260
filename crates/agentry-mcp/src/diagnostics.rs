//! Diagnostics of a server: the last lines of its standard error and the last fault of its transport. They explain a
//! failed connection, for which the SDK gives no reason.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

const MAX_LINES: usize = 5;
/// Length of the shortest secret: masking shorter ones would blank out half of every line.
const MIN_SECRET: usize = 6;

/// Diagnostics of one connection.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    kept: Mutex<Records>,
    secrets: Vec<SecretString>,
}

#[derive(Debug, Default)]
struct Records {
    lines: VecDeque<String>,
    fault: Option<String>,
}

impl Diagnostics {
    /// Creates diagnostics that mask these secrets.
    pub fn new(secrets: Vec<SecretString>) -> Self {
        Self { kept: Mutex::default(), secrets }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Masks the secrets of this server in a text.
    pub fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(|s| s.len() >= MIN_SECRET) {
            if text.contains(secret) {
                text = text.replace(secret, "[hidden]");
            }
        }
        text
    }

    /// Records a line of standard error. Returns it with secrets masked.
    pub fn record_line(&self, line: &str) -> String {
        let line = self.mask(line);
        let mut kept = self.lock();
        if kept.lines.len() == MAX_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.clone());
        line
    }

    pub fn record_fault(&self, fault: &str) {
        let fault = self.mask(fault);
        self.lock().fault = Some(fault);
    }

    /// Adds the known cause to `outcome`.
    pub fn explain(&self, outcome: &str) -> String {
        let outcome = self.mask(outcome);
        let kept = self.lock();
        let mut text = match &kept.fault {
            Some(fault) if !outcome.contains(fault.as_str()) => format!("{outcome}: {fault}"),
            _ => outcome,
        };
        if !kept.lines.is_empty() {
            let lines: Vec<&str> = kept.lines.iter().map(String::as_str).collect();
            text = format!("{text}; last lines of its standard error: {}", lines.join(" / "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_last_lines_are_kept() {
        let diagnostics = Diagnostics::new(vec!["s3cret-token".to_owned().into(), "ab".to_owned().into()]);
        for number in 0..9 {
            diagnostics.record_line(&format!("line {number} about s3cret-token"));
        }
        diagnostics.record_fault("refused s3cret-token");
        let text = diagnostics.explain("could not start");
        assert!(
            text.starts_with(
                "could not start: refused [hidden]; last lines of its standard error: line 4 about [hidden]"
            ),
            "{text}"
        );
        assert!(text.ends_with("line 8 about [hidden]"), "{text}");
    }
}
