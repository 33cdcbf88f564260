//! Settings from flags, environment and `agentry.toml`, in this order of precedence.

use agentry_api::Client;
use agentry_config::{Problem, Settings, Sources, Tables};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{DemoArgs, DoctorArgs, LocalArgs, MigrateArgs, ServeArgs, ServerArgs};
use crate::failure::Failure;

/// The default server: the default address of `serve`.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The given flags, by the name of their setting.
type Flags = Vec<(String, String)>;

fn given<'f>(flags: impl IntoIterator<Item = (&'f str, Option<&'f String>)>) -> Flags {
    flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect()
}

/// Returns the given flags of a command whose fields are named like their settings.
fn flags_of(args: &impl Serialize) -> Flags {
    let Ok(Value::Object(fields)) = serde_json::to_value(args) else { return Flags::new() };
    let flag = |(name, value): (String, Value)| match value {
        Value::String(text) => Some((name.replace('_', "-"), text)),
        Value::Bool(true) => Some((name.replace('_', "-"), "true".to_owned())),
        _ => None,
    };
    fields.into_iter().filter_map(flag).collect()
}

/// Loads the settings of a fleet inside this process.
pub fn of_fleet(place: &LocalArgs) -> Result<Settings, Failure> {
    load(flags_of(place))
}

/// Loads the settings that `doctor` checks.
pub fn of_doctor(args: &DoctorArgs) -> Result<Settings, Failure> {
    let mut flags = flags_of(&args.place);
    flags.extend(given([("engine", args.engine.as_ref())]));
    load(flags)
}

/// Loads the settings of `demo`: only the servers that it may use.
pub fn of_demo(args: &DemoArgs) -> Result<Settings, Failure> {
    load(given([("engine", args.engine.as_ref())]))
}

/// Loads the settings of `migrate`: the source folder and the target.
pub fn of_migrate(args: &MigrateArgs) -> Result<Settings, Failure> {
    load(given([
        ("data", args.from.as_ref()),
        ("postgres-url", args.to.as_ref()),
        ("postgres-schema", args.postgres_schema.as_ref()),
    ]))
}

/// Loads the settings of `serve`.
pub fn of_serve(args: &ServeArgs) -> Result<Settings, Failure> {
    load(flags_of(args))
}

/// Returns the server of a flag, the environment or the settings file.
pub fn named_server(url: Option<&String>, config: Option<&String>) -> Result<Option<String>, Failure> {
    Ok(load(given([("url", url), ("config", config)]))?.url)
}

/// Loads the settings of `keys create --local`: the store.
pub fn of_store(data: Option<&String>, engine: Option<&String>) -> Result<Settings, Failure> {
    load(given([("data", data), ("engine", engine)]))
}

/// Returns the API key of a flag, the environment or the settings file.
pub fn api_key(flag: Option<&String>, config: Option<&String>) -> Result<Option<SecretString>, Failure> {
    match flag {
        Some(key) => Ok(Some(key.clone().into())),
        None => Ok(load(given([("config", config)]))?.api_key),
    }
}

impl ServerArgs {
    /// Returns the API key to send.
    pub fn api_key(&self) -> Result<Option<SecretString>, Failure> {
        api_key(self.key.as_ref(), None)
    }

    /// Returns the address of the server.
    pub fn address(&self) -> Result<String, Failure> {
        Ok(named_server(self.url.as_ref(), None)?.unwrap_or_else(|| DEFAULT_URL.to_owned()))
    }

    /// Returns a client of the server.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::builder(&self.address()?).key(self.api_key()?).build()?)
    }
}

/// Loads the settings of a command that only names their file.
pub fn of_file(config: Option<&String>) -> Result<Settings, Failure> {
    load(given([("config", config)]))
}

/// Returns the traits and prices of models, with those of the files that the settings name.
pub fn tables(settings: &Settings) -> Result<Tables, Failure> {
    Tables::of(settings).map_err(|problem| all_of(&[problem]))
}

fn load(flags: Flags) -> Result<Settings, Failure> {
    Settings::load(&Sources::of_process(flags)).map_err(|problems| all_of(&problems))
}

/// Returns all problems as one failure; the first loses its label, which the failure adds.
fn all_of(problems: &[Problem]) -> Failure {
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Failure::usage(text.trim_start_matches("error: "))
}
