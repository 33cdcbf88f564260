//! The servers of the cluster engine: what must be set together.

use secrecy::SecretString;

use super::Settings;
use super::table::KEYS;
use crate::problem::Problem;

/// The servers of the cluster engine. Addresses hold passwords and cannot be printed.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// PostgreSQL.
    pub postgres_url: SecretString,
    /// The schema of the tables.
    pub postgres_schema: String,
    /// Connections to PostgreSQL at most.
    pub postgres_connections: usize,
    /// Redis; without it nothing is cached.
    pub redis_url: Option<SecretString>,
    /// RabbitMQ.
    pub rabbitmq_url: SecretString,
    /// What names of exchanges and queues begin with.
    pub rabbitmq_prefix: String,
    /// Queues for each mode.
    pub rabbitmq_shards: u16,
}

impl Settings {
    /// What the cluster engine needs.
    ///
    /// # Errors
    /// Every setting that it needs and that is not there.
    pub fn cluster(&self) -> Result<Cluster, Vec<Problem>> {
        let missing = |given: bool, name: &str| (!given).then(|| needed(name));
        let (postgres, rabbitmq) = (&self.postgres_url, &self.rabbitmq_url);
        if let (Some(postgres_url), Some(rabbitmq_url)) = (postgres.clone(), rabbitmq.clone()) {
            return Ok(Cluster {
                postgres_url,
                postgres_schema: self.postgres_schema.clone(),
                postgres_connections: self.postgres_connections,
                redis_url: self.redis_url.clone(),
                rabbitmq_url,
                rabbitmq_prefix: self.rabbitmq_prefix.clone(),
                rabbitmq_shards: self.rabbitmq_shards,
            });
        }
        let all = [missing(postgres.is_some(), "postgres-url"), missing(rabbitmq.is_some(), "rabbitmq-url")];
        Err(all.into_iter().flatten().collect())
    }
}

fn needed(name: &str) -> Problem {
    let key = KEYS.iter().find(|key| key.name == name);
    let (env, toml) = key.map_or((name, name), |key| (key.env, key.toml));
    let (table, entry) = toml.split_once('.').unwrap_or(("", toml));
    let problem = Problem::of_file("settings", format!("engine `cluster` needs {env}, and it is not set"));
    // No flag: a command line is visible to every process of a machine.
    problem.help(format!("set {env}, or `{entry}` under [{table}] in agentry.toml; or use --engine embedded"))
}
