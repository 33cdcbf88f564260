//! Where the figures of the cluster engine are taken: the servers, a schema and a prefix of our own on them, and the
//! certainty that nothing of it stays.

use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, NoTls};

use super::http::get;
use super::server::{PATIENCE, Server, folder_of};

/// Where the servers are: as for the tests.
struct Servers {
    postgres: String,
    rabbitmq: String,
    redis: String,
}

impl Servers {
    fn of_environment() -> Self {
        let url = |name: &str, standard: &str| std::env::var(name).unwrap_or_else(|_| standard.to_owned());
        Self {
            postgres: url("AGENTRY_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
            rabbitmq: url("AGENTRY_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
            redis: url("AGENTRY_TEST_REDIS_URL", "redis://127.0.0.1:6379"),
        }
    }
}

pub struct Stage {
    servers: Servers,
    /// The prefix of everything of ours on all servers, also the name of our PostgreSQL connections.
    pub name: String,
    /// Schemas made so far; the last one is in use.
    schemas: Mutex<Vec<String>>,
    dir: Arc<tempfile::TempDir>,
    /// For questions of this program; its time is not counted.
    pub client: Client,
}

/// Takes a figure, then removes what it left on the servers, also when it failed or was interrupted. Whether it was
/// taken.
pub async fn on_stage(agents: &[(String, String)], figure: impl AsyncFnOnce(&Stage)) -> bool {
    let stage = Stage::open(agents).await;
    let taken = tokio::select! {
        taken = AssertUnwindSafe(figure(&stage)).catch_unwind() => taken.is_ok(),
        () = interrupted() => false,
    };
    if !taken {
        println!("  the figure could not be taken; {}", stage.logs());
    }
    stage.remove().await;
    taken
}

/// Ctrl-C, or SIGTERM as `timeout` sends it.
async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

impl Stage {
    async fn open(agents: &[(String, String)]) -> Self {
        let servers = Servers::of_environment();
        let name = format!("figures_{:08x}", rand::random::<u32>());
        let client = connect(&servers.postgres, "agentry figures").await;
        let schemas = Mutex::new(vec![name.clone()]);
        Self { servers, name, schemas, dir: folder_of(agents), client }
    }

    /// Another process of the deployment.
    pub fn process(&self, name: &str, arguments: &[&str]) -> Server {
        self.process_with(name, arguments, Vec::new())
    }

    /// The same with more settings.
    pub fn process_with(&self, name: &str, arguments: &[&str], more: Vec<(String, String)>) -> Server {
        let environment = [
            ("AGENTRY_ENGINE", "cluster".to_owned()),
            ("AGENTRY_POSTGRES_URL", self.postgres_url()),
            ("AGENTRY_POSTGRES_SCHEMA", self.schema()),
            ("AGENTRY_RABBITMQ_URL", self.servers.rabbitmq.clone()),
            ("AGENTRY_RABBITMQ_PREFIX", self.name.clone()),
            ("AGENTRY_REDIS_URL", self.servers.redis.clone()),
            ("AGENTRY_LOG", "warn".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(more);
        let environment: Vec<_> = environment.collect();
        Server::spawn(Arc::clone(&self.dir), arguments, &environment, Some(&format!("{name}.log")))
    }

    /// The server with our name on each connection, by which its processes are told from those of others.
    pub fn postgres_url(&self) -> String {
        let url = &self.servers.postgres;
        format!("{url}{}application_name={}", if url.contains('?') { '&' } else { '?' }, self.name)
    }

    pub fn redis_url(&self) -> &str {
        &self.servers.redis
    }

    /// The servers' names and ports.
    pub fn ports(&self) -> [(&'static str, u16); 3] {
        let port = |url: &str, standard| {
            let place = url.rsplit('@').next().unwrap_or(url).trim_start_matches("redis://");
            let place = place.split(['/', '?']).next().unwrap_or_default();
            place.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(standard)
        };
        let servers = &self.servers;
        [
            ("PostgreSQL", port(&servers.postgres, 5432)),
            ("RabbitMQ", port(&servers.rabbitmq, 5672)),
            ("Redis", port(&servers.redis, 6379)),
        ]
    }

    /// The schema in use.
    pub fn schema(&self) -> String {
        self.schemas.lock().unwrap().last().unwrap().clone()
    }

    /// From now on another, empty schema is in use.
    pub fn next_schema(&self) -> String {
        let mut schemas = self.schemas.lock().unwrap();
        let next = format!("{}_{}", self.name, schemas.len());
        schemas.push(next.clone());
        next
    }

    /// A schema for what is no part of the platform; it is not in use by the processes.
    pub fn bare_schema(&self) -> String {
        let bare = format!("{}_bare", self.name);
        self.schemas.lock().unwrap().insert(0, bare.clone());
        bare
    }

    /// A connection to PostgreSQL like those of the processes.
    pub async fn postgres(&self) -> Client {
        connect(&self.servers.postgres, "agentry figures").await
    }

    pub async fn rabbitmq(&self) -> Connection {
        let connecting = Connection::connect(&self.servers.rabbitmq, ConnectionProperties::default());
        connecting.await.unwrap_or_else(|error| panic!("no RabbitMQ ({error}): run `cargo xtask services`"))
    }

    /// Rows of the only column of the only row of a question.
    pub async fn count(&self, sql: &str) -> i64 {
        let sql = sql.replace("{schema}", &self.schema());
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Waits until the sums of queued and running tasks, as a process shows them, fit.
    pub async fn wait(&self, server: &Server, fits: impl Fn(u64, u64) -> bool) {
        let mut connection = server.connect().await;
        let began = Instant::now();
        loop {
            let (_, body) = connection.send(&get("/health/ready")).await;
            let ready: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let detail = ready["checks"]["queue"]["detail"].as_str().unwrap_or_default().to_owned();
            let number = |part: usize| detail.split(", ").nth(part)?.split(' ').next()?.parse::<u64>().ok();
            if let (Some(queued), Some(running)) = (number(0), number(1))
                && fits(queued, running)
            {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "after {PATIENCE:?}: {ready}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing is queued or running, and checks that as many tasks have ended as were accepted.
    pub async fn drained(&self, server: &Server, accepted: u64) {
        self.wait(server, |queued, running| queued == 0 && running == 0).await;
        let ended = self.count("SELECT count(*) FROM {schema}.ended_tasks").await;
        assert_eq!(ended, accepted as i64, "every accepted task ends once");
    }

    /// Queues and exchanges of ours that the broker has.
    pub fn on_broker(&self, what: &str) -> Vec<String> {
        let vhost = self.servers.rabbitmq.parse::<AMQPUri>().map_or_else(|_| "/".to_owned(), |uri| uri.vhost);
        let arguments = ["--silent", "--vhost", &vhost, what, "name"];
        let said = Command::new("rabbitmqctl").args(arguments).output().expect("rabbitmqctl is needed");
        assert!(said.status.success(), "rabbitmqctl {what}: {}", String::from_utf8_lossy(&said.stderr));
        let names = String::from_utf8_lossy(&said.stdout).into_owned();
        names.lines().filter(|line| line.starts_with(&self.name)).map(str::to_owned).collect()
    }

    /// The last lines that the processes wrote.
    fn logs(&self) -> String {
        let mut text = format!("schema {}", self.schema());
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let said = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let last = said.lines().rev().take(3).collect::<Vec<_>>();
                text.push_str(&format!("\n  {}: {}", entry.file_name().to_string_lossy(), last.join(" | ")));
            }
        }
        text
    }

    async fn remove(self) {
        let schemas = self.schemas.lock().unwrap().clone();
        for schema in &schemas {
            if let Err(error) = self.client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await {
                println!("  the schema {schema} could not be removed: {error}");
            }
        }
        let connection = self.rabbitmq().await;
        for queue in self.on_broker("list_queues") {
            // A failed deletion ends its channel. Exclusive queues are refused; they go with their connections.
            let channel = connection.create_channel().await.unwrap();
            let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        }
        for exchange in self.on_broker("list_exchanges") {
            let channel = connection.create_channel().await.unwrap();
            if let Err(error) = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await {
                println!("  an exchange could not be removed: {error}");
            }
        }
        let _ = connection.close(200, "OK".into()).await;
        self.forget_keys().await;
    }

    /// Removes our keys from Redis: they begin with the schema.
    async fn forget_keys(&self) {
        let client = redis::Client::open(self.servers.redis.as_str()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let pattern = format!("{}*", self.name);
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut redis).await.unwrap();
            if !keys.is_empty() {
                let () = redis::cmd("UNLINK").arg(keys).query_async(&mut redis).await.unwrap();
            }
            if next == 0 {
                return;
            }
            cursor = next;
        }
    }
}

async fn connect(url: &str, name: &str) -> Client {
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.application_name(name);
    let connected = config.connect(NoTls).await;
    let (client, connection) =
        connected.unwrap_or_else(|error| panic!("no PostgreSQL ({error}): run `cargo xtask services`"));
    tokio::spawn(connection);
    client
}
