//! Settings of the cluster engine that are required together.

use secrecy::SecretString;

use super::Settings;
use super::table::KEYS;
use crate::problem::Problem;

/// The servers of the cluster engine. Addresses hold passwords and cannot be printed.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// PostgreSQL.
    pub postgres_url: SecretString,
    /// Schema of the tables.
    pub postgres_schema: String,
    /// Maximum number of connections to PostgreSQL.
    pub postgres_connections: usize,
    /// Redis; `None` disables the cache.
    pub redis_url: Option<SecretString>,
    /// RabbitMQ.
    pub rabbitmq_url: SecretString,
    /// Prefix of the names of exchanges and queues.
    pub rabbitmq_prefix: String,
    /// Number of queues for each mode.
    pub rabbitmq_shards: u16,
}

impl Settings {
    /// Returns the servers of the cluster engine.
    ///
    /// # Errors
    /// Fails with every required setting that is missing.
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
    // A flag would be visible to every process of the machine.
    problem.help(format!("set {env}, or `{entry}` under [{table}] in agentry.toml; or use --engine embedded"))
}
