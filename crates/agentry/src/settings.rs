//! From the command line to settings: flags go on top of the environment and `agentry.toml`.

use agentry_api::Client;
use agentry_config::{Problem, Settings, Sources};
use secrecy::SecretString;

use crate::cli::{Demo, Doctor, Migrate, Place, Serve, Server};
use crate::failure::Failure;

/// Where verbs look for a server when nobody says otherwise: where `serve` listens by default.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Flags by name, those that were given.
type Flags = Vec<(String, String)>;

fn given<'f>(flags: impl IntoIterator<Item = (&'f str, Option<&'f String>)>) -> Flags {
    flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect()
}

fn of_place(place: &Place) -> Flags {
    let sim = place.sim.then(|| "true".to_owned());
    let providers = &place.providers;
    given([
        ("config", place.config.as_ref()),
        ("agents", place.agents.as_ref()),
        ("data", place.data.as_ref()),
        ("sim", sim.as_ref()),
        ("openai-base-url", providers.openai_base_url.as_ref()),
        ("anthropic-base-url", providers.anthropic_base_url.as_ref()),
        ("bedrock-base-url", providers.bedrock_base_url.as_ref()),
        ("aws-region", providers.aws_region.as_ref()),
        ("ollama-base-url", providers.ollama_base_url.as_ref()),
        ("llm-limits", providers.llm_limits.as_ref()),
        ("llm-connect-timeout", providers.llm_connect_timeout.as_ref()),
        ("llm-first-token-timeout", providers.llm_first_token_timeout.as_ref()),
        ("llm-token-timeout", providers.llm_token_timeout.as_ref()),
    ])
}

/// The settings of a fleet inside this process.
///
/// # Errors
/// What is wrong with them.
pub fn of_fleet(place: &Place) -> Result<Settings, Failure> {
    load(of_place(place))
}

/// The settings that `doctor` looks at.
///
/// # Errors
/// What is wrong with them.
pub fn of_doctor(args: &Doctor) -> Result<Settings, Failure> {
    let mut flags = of_place(&args.place);
    flags.extend(given([("engine", args.engine.as_ref())]));
    load(flags)
}

/// The settings of `demo`: only which servers it may use. Everything else of them is the demo's own.
///
/// # Errors
/// What is wrong with them.
pub fn of_demo(args: &Demo) -> Result<Settings, Failure> {
    load(given([("engine", args.engine.as_ref())]))
}

/// The settings of `migrate`: which folder, and where to.
///
/// # Errors
/// What is wrong with them.
pub fn of_migrate(args: &Migrate) -> Result<Settings, Failure> {
    load(given([
        ("data", args.from.as_ref()),
        ("postgres-url", args.to.as_ref()),
        ("postgres-schema", args.postgres_schema.as_ref()),
    ]))
}

/// The settings of `serve`.
///
/// # Errors
/// What is wrong with them.
pub fn of_serve(args: &Serve) -> Result<Settings, Failure> {
    let mut flags = of_place(&args.place);
    let open = args.allow_unauthenticated.then(|| "true".to_owned());
    flags.extend(given([("allow-unauthenticated", open.as_ref())]));
    flags.extend(given([
        ("listen", args.listen.as_ref()),
        ("auth", args.auth.as_ref()),
        ("allowed-hosts", args.allowed_hosts.as_ref()),
        ("key-requests-per-second", args.key_requests_per_second.as_ref()),
        ("reports", args.reports.as_ref()),
        ("tls-cert", args.tls_cert.as_ref()),
        ("tls-key", args.tls_key.as_ref()),
        ("engine", args.engine.as_ref()),
        ("postgres-schema", args.postgres_schema.as_ref()),
        ("postgres-connections", args.postgres_connections.as_ref()),
        ("rabbitmq-prefix", args.rabbitmq_prefix.as_ref()),
        ("rabbitmq-shards", args.rabbitmq_shards.as_ref()),
        ("retention", args.retention.as_ref()),
        ("task-retention", args.task_retention.as_ref()),
        ("usage-retention", args.usage_retention.as_ref()),
        ("prices", args.prices.as_ref()),
        ("slack-api-url", args.slack_api_url.as_ref()),
        ("slack-routes", args.slack_routes.as_ref()),
        ("slack-questions", args.slack_questions.as_ref()),
        ("slack-reminder", args.slack_reminder.as_ref()),
        ("role", args.role.as_ref()),
        ("mode", args.mode.as_ref()),
        ("slots", args.slots.as_ref()),
        ("max-queued", args.max_queued.as_ref()),
        ("max-body-bytes", args.max_body_bytes.as_ref()),
        ("drain", args.drain.as_ref()),
        ("log", args.log.as_ref()),
        ("log-format", args.log_format.as_ref()),
        ("otlp-endpoint", args.otlp_endpoint.as_ref()),
        ("trace-service", args.trace_service.as_ref()),
        ("trace-sampler", args.trace_sampler.as_ref()),
        ("trace-share", args.trace_share.as_ref()),
    ]));
    load(flags)
}

/// The server that a flag, the environment or the settings file names; `None` when none does.
///
/// # Errors
/// What is wrong with the settings.
pub fn named_server(url: Option<&String>, config: Option<&String>) -> Result<Option<String>, Failure> {
    Ok(load(given([("url", url), ("config", config)]))?.url)
}

/// The settings of `keys create --local`: which store.
///
/// # Errors
/// What is wrong with them.
pub fn of_store(data: Option<&String>, engine: Option<&String>) -> Result<Settings, Failure> {
    load(given([("data", data), ("engine", engine)]))
}

/// The key that a flag, the environment or the settings file gives.
///
/// # Errors
/// What is wrong with the settings.
pub fn api_key(flag: Option<&String>, config: Option<&String>) -> Result<Option<SecretString>, Failure> {
    match flag {
        Some(key) => Ok(Some(key.clone().into())),
        None => Ok(load(given([("config", config)]))?.api_key),
    }
}

impl Server {
    /// The key to bring.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn api_key(&self) -> Result<Option<SecretString>, Failure> {
        api_key(self.key.as_ref(), None)
    }

    /// The address of the server to talk to.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn address(&self) -> Result<String, Failure> {
        Ok(named_server(self.url.as_ref(), None)?.unwrap_or_else(|| DEFAULT_URL.to_owned()))
    }

    /// A client of it.
    ///
    /// # Errors
    /// What is wrong with the settings, or the address.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::builder(&self.address()?).key(self.api_key()?).build()?)
    }
}

fn load(flags: Flags) -> Result<Settings, Failure> {
    Settings::load(&Sources::of_process(flags)).map_err(|problems| all_of(&problems))
}

/// Problems as one failure: each in its own words, the first without its label, which the failure brings.
fn all_of(problems: &[Problem]) -> Failure {
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Failure::usage(text.trim_start_matches("error: "))
}
