//! The engine of the demo: its state is in the demo's own folder, or on servers that are there already, under names that
//! nobody else has and that are removed at the end.

use agentry_config::Engine;
use secrecy::ExposeSecret;

use crate::failure::Failure;
use crate::{cli, engine, settings};

/// An engine and what its processes are told about it.
pub struct DemoEngine {
    /// The engine.
    pub engine: Engine,
    /// Variables of every process.
    pub environment: Vec<(&'static str, String)>,
    cluster: Option<agentry_config::Cluster>,
}

impl DemoEngine {
    /// Returns the engine that was asked for.
    pub async fn find(args: &cli::DemoArgs) -> Result<Self, Failure> {
        // Without the flag nothing of the caller's settings is the demo's.
        if args.engine.is_none() {
            return Ok(Self::embedded());
        }
        match settings::of_demo(args)? {
            settings if settings.engine == Engine::Cluster => Self::on_servers(settings).await,
            _ => Ok(Self::embedded()),
        }
    }

    fn embedded() -> Self {
        Self { engine: Engine::Embedded, environment: Vec::new(), cluster: None }
    }

    /// Returns its word.
    pub fn word(&self) -> &'static str {
        engine::word(self.engine)
    }

    async fn on_servers(mut settings: agentry_config::Settings) -> Result<Self, Failure> {
        /// Default addresses of local servers, with their default users.
        const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/postgres";
        const RABBITMQ: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
        const REDIS: &str = "redis://127.0.0.1:6379/0";
        settings.postgres_url.get_or_insert_with(|| POSTGRES.to_owned().into());
        settings.rabbitmq_url.get_or_insert_with(|| RABBITMQ.to_owned().into());
        let named = settings.redis_url.is_some();
        let redis = settings.redis_url.clone().unwrap_or_else(|| REDIS.to_owned().into());
        let own = format!("agentry_demo_{}", std::process::id());
        settings.postgres_schema.clone_from(&own);
        settings.rabbitmq_prefix = own;
        let mut cluster = engine::cluster_settings(&settings)?;
        let (postgres, rabbitmq, cache) = tokio::join!(
            crate::servers::postgres(&cluster),
            crate::servers::rabbitmq(&cluster),
            crate::servers::redis(&redis),
        );
        postgres.map_err(|error| missing("PostgreSQL 15 or newer", "AGENTRY_POSTGRES_URL", POSTGRES, &error))?;
        rabbitmq.map_err(|error| missing("RabbitMQ 3.10 or newer", "AGENTRY_RABBITMQ_URL", RABBITMQ, &error))?;
        match cache {
            Ok(_) => cluster.redis_url = Some(redis),
            Err(error) if named => return Err(missing("Redis", "AGENTRY_REDIS_URL", REDIS, &error)),
            // The demo goes without a cache, as any deployment may.
            Err(_) => {}
        }
        let mut environment = vec![
            ("AGENTRY_ENGINE", "cluster".to_owned()),
            ("AGENTRY_POSTGRES_URL", cluster.postgres_url.expose_secret().to_owned()),
            ("AGENTRY_POSTGRES_SCHEMA", cluster.postgres_schema.clone()),
            ("AGENTRY_POSTGRES_CONNECTIONS", cluster.postgres_connections.to_string()),
            ("AGENTRY_RABBITMQ_URL", cluster.rabbitmq_url.expose_secret().to_owned()),
            ("AGENTRY_RABBITMQ_PREFIX", cluster.rabbitmq_prefix.clone()),
            ("AGENTRY_RABBITMQ_SHARDS", cluster.rabbitmq_shards.to_string()),
        ];
        environment.extend(cluster.redis_url.as_ref().map(|url| ("AGENTRY_REDIS_URL", url.expose_secret().to_owned())));
        Ok(Self { engine: Engine::Cluster, environment, cluster: Some(cluster) })
    }

    /// Removes what the demo left on servers. Its processes must have ended.
    pub async fn clean_up(&self) -> Result<(), Failure> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        crate::servers::remove_all(cluster).await.map_err(|error| {
            let (schema, prefix) = (&cluster.postgres_schema, &cluster.rabbitmq_prefix);
            Failure::new(format!("could not remove what the demo left on its servers: {error}"))
                .help(format!("drop the schema `{schema}`, and the queues and exchanges `{prefix}.*`"))
        })
    }
}

fn missing(what: &str, variable: &str, usual: &str, error: &str) -> Failure {
    // The usual address holds no secret: it is what the server comes with.
    Failure::new(format!("the demo on the cluster engine needs {what}: {error}"))
        .help(format!("start it at {usual}, or name another with {variable}; `agentry demo` alone needs no server"))
}
