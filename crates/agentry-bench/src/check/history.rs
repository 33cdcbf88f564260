//! The history of a run: what was asked and what was heard, as JSON Lines. An attempt is on disk before it is sent, so
//! that no crash of ours can make a promise of the platform vanish.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::load::clock::now;

/// Error that makes a history unusable.
#[derive(Debug, thiserror::Error)]
#[error("the history {}: {error}", path.display())]
pub struct HistoryError {
    path: PathBuf,
    error: std::io::Error,
}

/// Knowledge of an operation. A lost connection or an answer that did not come is [`OperationKind::Info`]: it may have
/// happened; calling it a failure would hide a phantom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// It is about to be sent.
    Invoke,
    /// It was acknowledged.
    Ok,
    /// It was refused: nothing happened.
    Fail,
    /// Nobody knows.
    Info,
}

impl OperationKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// A file of operations.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: BufWriter<File>,
    index: u64,
}

impl History {
    /// Begins one.
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let file = File::create(path).map_err(|error| HistoryError { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), index: 0 })
    }

    /// Notes an operation. An invocation is synced to the disk before this returns; what was heard is written with the
    /// next invocation, since losing it can only make a loss look like an unknown outcome.
    pub fn note(
        &mut self,
        kind: OperationKind,
        process: &str,
        operation: &str,
        value: &Value,
    ) -> Result<(), HistoryError> {
        let line = json!({
            "index": self.index, "process": process, "type": kind.as_str(), "f": operation, "value": value, "t": now(),
        });
        self.index += 1;
        let written = writeln!(self.file, "{line}").and_then(|()| match kind {
            OperationKind::Invoke => self.file.flush().and_then(|()| self.file.get_ref().sync_data()),
            _ => Ok(()),
        });
        written.map_err(|error| HistoryError { path: self.path.clone(), error })
    }

    /// Everything to the disk.
    pub fn end(mut self) -> Result<PathBuf, HistoryError> {
        let written = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        written.map_err(|error| HistoryError { path: self.path.clone(), error })?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_there_before_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let mut history = History::create(&path).unwrap();
        history.note(OperationKind::Invoke, "caller", "submit", &json!("k1")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["type"], &line["value"], &line["index"]), (&json!("invoke"), &json!("k1"), &json!(0)));
        history.note(OperationKind::Info, "caller", "submit", &json!("k1")).unwrap();
        history.end().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(History::create(&folder.path().join("no/such/folder")).unwrap_err().to_string().contains("no/such"));
    }
}
