//! `run --record` and `run --replay`: recordings of calls.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agentry_config::Settings;
use agentry_core::agent::ProviderKind;
use agentry_core::tape::{Player, Recorder, Scrubber};
use agentry_llm::{LlmProvider, Providers, RecordingProvider, ReplayProvider};
use agentry_tools::{RecordingTools, ReplayTools, ToolBox};
use serde_json::Value;

use crate::cli;
use crate::failure::Failure;

/// The largest tape that is read, in bytes.
const MAX_TAPE_BYTES: u64 = 64 * 1024 * 1024;
/// Words in the names of variables whose values are secrets.
const SECRET_WORDS: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];
/// Calls that were not made, shown one by one.
const MAX_UNUSED_SHOWN: usize = 10;

/// A recording in use.
pub enum Tape {
    /// Calls are recorded.
    Record {
        /// Receives entries.
        recorder: Arc<Recorder>,
        /// Writes them to the file.
        sink: Arc<TapeFile>,
    },
    /// Calls are replayed.
    Replay {
        /// Returns recorded answers.
        player: Arc<Player>,
        /// Path of the recording.
        file: PathBuf,
    },
}

/// The file of a recording, with the first write error.
pub struct TapeFile {
    path: PathBuf,
    state: Mutex<(BufWriter<File>, Option<std::io::Error>)>,
}

impl Tape {
    /// Opens the recording of the flags.
    pub fn open(args: &cli::RunTaskArgs, input: &Value, settings: &Settings) -> Result<Option<Self>, Failure> {
        if let Some(path) = &args.record {
            let sink = Arc::new(TapeFile::new(path)?);
            let to = Arc::clone(&sink);
            let lines = Box::new(move |line: &str| to.line(line));
            let recorder = Arc::new(Recorder::new(&args.agent, input, scrubber(settings), lines));
            return Ok(Some(Self::Record { recorder, sink }));
        }
        let Some(path) = &args.replay else { return Ok(None) };
        let cannot = |reason: String| Failure::new(format!("cannot replay {}: {reason}", path.display()));
        let size = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
        if size > MAX_TAPE_BYTES {
            return Err(cannot(format!("it has more than {MAX_TAPE_BYTES} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
        let player = Player::new(&text, scrubber(settings))
            .map_err(|error| cannot(error.to_string()).help("`agentry run --record FILE` makes such files"))?;
        Ok(Some(Self::Replay { player: Arc::new(player), file: path.clone() }))
    }

    /// Returns whether calls are replayed.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replay { .. })
    }

    /// Returns the providers of this run.
    pub fn providers(&self, real: Providers) -> Providers {
        match self {
            Self::Record { recorder, .. } => real.wrap_providers(&|provider| -> Arc<dyn LlmProvider> {
                Arc::new(RecordingProvider { provider, tape: Arc::clone(recorder) })
            }),
            Self::Replay { player, .. } => {
                let taped: Arc<dyn LlmProvider> = Arc::new(ReplayProvider { tape: Arc::clone(player) });
                Providers::with_providers(ProviderKind::ALL.map(|kind| (kind, Arc::clone(&taped))).into())
            }
        }
    }

    /// Returns the tools of this run.
    pub fn tools(&self, real: Arc<dyn ToolBox>) -> Arc<dyn ToolBox> {
        match self {
            Self::Record { recorder, .. } => Arc::new(RecordingTools::new(real, Arc::clone(recorder))),
            Self::Replay { player, .. } => Arc::new(ReplayTools::new(Arc::clone(player))),
        }
    }

    /// Finishes the run: checks that the recording is complete, or that the replay matched it.
    ///
    /// # Errors
    /// The first difference from the recording, calls that were not made, or why the file could not be written; else
    /// what the task failed with.
    pub fn end(&self, answered: Result<(), Failure>) -> Result<(), Failure> {
        match self {
            Self::Record { sink, .. } => sink.end().and(answered),
            Self::Replay { player, file } => {
                let shown = file.display();
                if let Some(difference) = player.mismatch() {
                    let advice = "record it again with --record when the change is meant";
                    return Err(Failure::new(format!("this run is not the one in {shown}: {difference}")).help(advice));
                }
                answered?;
                let unused = player.unused();
                if unused.is_empty() {
                    return Ok(());
                }
                let mut list =
                    unused.iter().take(MAX_UNUSED_SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
                if unused.len() > MAX_UNUSED_SHOWN {
                    list.push_str(&format!("\n  and {} more", unused.len() - MAX_UNUSED_SHOWN));
                }
                let calls = if unused.len() == 1 { "a call" } else { "calls" };
                Err(Failure::new(format!("{shown} has {calls} that this run did not make:{list}"))
                    .help("record it again with --record when the change is meant"))
            }
        }
    }
}

impl TapeFile {
    fn new(path: &Path) -> Result<Self, Failure> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        // The file has inputs and outputs, so it is private.
        let file = agentry_store::private_files::open(&mut options, path).map_err(|error| {
            Failure::new(format!("cannot record to {}: {error}", path.display()))
                .help("name a file in a folder that exists")
        })?;
        Ok(Self { path: path.to_owned(), state: Mutex::new((BufWriter::new(file), None)) })
    }

    /// Writes a line and flushes it, so that a killed run leaves its recording.
    fn line(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, failed) = &mut *state;
        if failed.is_none() {
            *failed = writeln!(file, "{line}").and_then(|()| file.flush()).err();
        }
    }

    fn end(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.1.take() {
            None => Ok(()),
            Some(error) => Err(Failure::new(format!("the recording {} is not whole: {error}", self.path.display()))),
        }
    }
}

/// Returns the scrubber of a recording: it removes values of variables with secret names, and of those in agent files.
fn scrubber(settings: &Settings) -> Scrubber {
    let named = variables_of(&settings.agents);
    let is_secret = |name: &str| {
        let upper = name.to_ascii_uppercase();
        SECRET_WORDS.iter().any(|word| upper.contains(word)) || named.iter().any(|known| known == name)
    };
    Scrubber::new(std::env::vars().filter(|(name, _)| is_secret(name)).collect())
}

/// Returns the variables in the agent files of a folder.
fn variables_of(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml"));
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    let mut names = Vec::new();
    for text in texts {
        for part in text.split("${").skip(1) {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(part.len());
            names.push(part[..end].to_owned());
        }
    }
    names
}
