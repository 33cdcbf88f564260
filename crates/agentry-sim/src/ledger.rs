//! The lines of a ledger: all of them in a file, the last ones in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// JSON Lines that are appended to a file and kept for `GET /sim/ledger`.
#[derive(Debug)]
pub(crate) struct LineLog {
    file: Option<File>,
    recent: VecDeque<String>,
    kept: usize,
}

impl LineLog {
    /// Opens a log that appends to `path` and keeps the last `kept` lines in memory; without a path it keeps only those.
    pub(crate) fn open(path: Option<&Path>, kept: usize) -> io::Result<Self> {
        let file = path.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open the ledger {}: {error}", path.display()))
            })
        });
        Ok(Self { file: file.transpose()?, recent: VecDeque::new(), kept })
    }

    /// Appends a line, which ends with a line break. Each is one unbuffered write: data handed to the operating system
    /// survives a kill -9 of the simulator.
    pub(crate) fn append(&mut self, line: String) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(line.as_bytes())
        {
            tracing::error!(%error, "cannot write the ledger");
        }
        if self.recent.len() == self.kept {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    pub(crate) fn recent(&self) -> String {
        self.recent.iter().map(String::as_str).collect()
    }
}
