//! A directory of agent files as a fleet: read in parallel, checked across files, reloaded on changes.

mod assemble;
mod collaborators;
mod list;
mod load;
mod validate;
mod watch;

pub use load::{FleetLoader, LoadedFleet, load_fleet, reload};
pub use validate::{validate_paths, validate_paths_with, validate_text};
pub use watch::{FleetWatcher, WatchError};
