//! Agent files and settings: from YAML and TOML to checked values, with positions.

mod agent;
mod fleet;
mod handle;
mod problem;
mod settings;
mod tables;
mod yaml;

pub use agent::{ImportResult, agent_file_schema, import_text};
pub use fleet::{
    FleetLoader, FleetWatcher, LoadedFleet, WatchError, load_fleet, reload, validate_paths, validate_paths_with,
    validate_text,
};
pub use handle::FleetHandle;
pub use problem::{Position, Problem, Severity};
pub use settings::{
    Cluster, Engine, KEYS, Key, LogFormat, ModelLimit, ProviderSettings, Role, Sampler, Settings, SlackRoute,
    SlackSettings, Sources, TraceSettings, settings_reference,
};
pub use tables::Tables;
