//! Reads a directory in parallel, and only the files that changed since the last time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use agentry_core::fleet::Fleet;

use super::assemble::assemble;
use super::list::{Listed, Stamp, agent_files, shown};
use crate::agent::{Environment, ParsedFile, Scratch, parse_file, process_environment};
use crate::problem::Problem;
use crate::tables::Tables;

/// Maximum number of reading threads.
const MAX_THREADS: usize = 16;
/// Number of files per thread below which a thread costs more than it saves.
const FILES_PER_THREAD: usize = 32;
/// A file changed less than this before it was read may change again with the same modification time (file systems
/// count in steps of up to 2 s), so it is read again.
const RACY: Duration = Duration::from_secs(2);

/// The result of reading a directory.
#[derive(Debug, Default)]
pub struct LoadedFleet {
    /// All agents, invalid ones with their error.
    pub fleet: Fleet,
    /// Problems, sorted by file and line.
    pub problems: Vec<Problem>,
    /// Findings that do not prevent the use of their file.
    pub warnings: Vec<Problem>,
}

/// A file as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    stamp: Stamp,
    settled: bool,
    pub file: Arc<ParsedFile>,
}

/// Reads a directory repeatedly, parsing only files that changed.
#[derive(Debug)]
pub struct FleetLoader {
    dir: PathBuf,
    known: HashMap<PathBuf, Known>,
    tables: Tables,
}

/// Reads every agent file of a directory (`*.yml`, `*.yaml`, also in nested directories). Bad files never prevent good
/// ones from loading: they become entries with an error.
#[must_use]
pub fn load_fleet(dir: &Path) -> LoadedFleet {
    reload(&Fleet::default(), dir)
}

/// As [`load_fleet`], but an agent whose file is bad keeps the version it has in `previous`. If the directory itself
/// cannot be read, all of them do.
#[must_use]
pub fn reload(previous: &Fleet, dir: &Path) -> LoadedFleet {
    let mut loader = FleetLoader::new(dir);
    loader.load(previous).unwrap_or_else(|problem| LoadedFleet {
        fleet: previous.clone(),
        problems: vec![problem],
        warnings: Vec::new(),
    })
}

impl FleetLoader {
    /// Returns a loader that has read nothing.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), known: HashMap::new(), tables: Tables::shipped().clone() }
    }

    /// Uses the models and prices of a deployment for warnings and checks.
    #[must_use]
    pub fn with_tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// Returns the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the files that changed. An agent whose file is bad keeps the version it has in `previous`.
    ///
    /// # Errors
    /// Fails when the directory itself cannot be read; `previous` should be kept then.
    pub fn load(&mut self, previous: &Fleet) -> Result<LoadedFleet, Problem> {
        let listed = agent_files(&self.dir)?;
        let (kept, changed): (Vec<&Listed>, Vec<&Listed>) = listed.iter().partition(|listed| {
            self.known.get(&listed.path).is_some_and(|known| known.settled && known.stamp == listed.stamp)
        });
        let read = parse_all(&changed, &process_environment(&self.tables));
        let mut next: HashMap<PathBuf, Known> = HashMap::with_capacity(listed.len());
        for listed in kept {
            if let Some((path, known)) = self.known.remove_entry(&listed.path) {
                next.insert(path, known);
            }
        }
        let now = SystemTime::now();
        for (listed, file) in changed.iter().zip(read) {
            let age = listed.stamp.modified.and_then(|modified| now.duration_since(modified).ok());
            // An equal file keeps its allocation, so that an unchanged fleet compares cheaply.
            let file = match self.known.remove(&listed.path) {
                Some(before) if before.stamp == listed.stamp && same(&before.file, &file) => before.file,
                _ => Arc::new(file),
            };
            let settled = age.is_some_and(|age| age > RACY);
            next.insert(listed.path.clone(), Known { stamp: listed.stamp, settled, file });
        }
        self.known = next;
        let files = listed.iter().filter_map(|l| self.known.get(&l.path).map(|known| (l.path.as_path(), &*known.file)));
        Ok(assemble(&files.collect::<Vec<_>>(), previous))
    }
}

fn same(a: &ParsedFile, b: &ParsedFile) -> bool {
    a.spec == b.spec && a.problems == b.problems && a.warnings == b.warnings
}

/// Parses every file; the results are in the same order.
pub(crate) fn parse_all(files: &[&Listed], env: &Environment<'_>) -> Vec<ParsedFile> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (files.len() / FILES_PER_THREAD).clamp(1, cores.min(MAX_THREADS));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut scratch = Scratch::default();
        let mut done = Vec::with_capacity(files.len() / threads);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(listed) = files.get(at) else { return done };
            done.push((at, parse_file(&listed.path, shown(&listed.path), env, &mut scratch)));
        }
    };
    let mut parsed: Vec<(usize, ParsedFile)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parsed = work();
        for helper in helpers {
            match helper.join() {
                Ok(done) => parsed.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parsed
    });
    parsed.sort_unstable_by_key(|(at, _)| *at);
    parsed.into_iter().map(|(_, file)| file).collect()
}
