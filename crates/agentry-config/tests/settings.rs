//! Settings: the order of their layers, mistakes in each, and secrets that are not shown.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;
use std::time::Duration;

use agentry_config::{Engine, KEYS, LogFormat, Role, Settings, Sources, settings_reference};
use agentry_core::agent::ExecutionMode;
use secrecy::ExposeSecret;

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads settings with a settings file of this text.
fn load(toml: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentry.toml");
    std::fs::write(&path, toml).unwrap();
    let mut flags = pairs(flags);
    flags.push(("config".to_owned(), path.to_str().unwrap().to_owned()));
    let sources = Sources { flags, environment: pairs(environment) };
    Settings::load(&sources).map_err(|problems| {
        problems.iter().fold(String::new(), |mut text, problem| {
            writeln!(text, "{problem}\n").unwrap();
            text.replace(&format!("{}/", dir.path().display()), "")
        })
    })
}

#[test]
fn defaults_need_nothing() {
    let settings = load("", &[], &[]).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((settings.engine, settings.slots, settings.max_queued), (Engine::Embedded, 1024, 1_000_000));
    assert_eq!((settings.max_body_bytes, settings.drain), (1 << 20, Duration::from_secs(30)));
    assert_eq!(settings.roles, Role::ALL);
    assert!(ExecutionMode::ALL.into_iter().all(|mode| settings.modes.contains(mode)));
    assert_eq!((settings.data.to_str(), settings.agents.to_str()), (Some("data"), Some("agents")));
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let toml = "[server]\nlisten = \"127.0.0.1:1\"\ndrain = 2.5\n[worker]\nslots = 2\nroles = [\"worker\", \"api\"]\nmax_queued = 7\n[log]\nformat = \"json\"\n";
    let environment =
        [("AGENTRY_LISTEN", "127.0.0.1:3"), ("AGENTRY_SLOTS", "4"), ("PATH", "/bin"), ("AGENTRY_URL", "")];
    let settings = load(toml, &environment, &[("listen", "127.0.0.1:5")]).unwrap();
    assert_eq!(settings.listen.port(), 5);
    assert_eq!((settings.slots, settings.max_queued), (4, 7));
    assert_eq!((settings.drain, settings.log_format), (Duration::from_millis(2500), LogFormat::Json));
    assert_eq!(settings.roles, [Role::Api, Role::Worker]);
    assert_eq!(settings.url, None);
}

#[test]
fn mistakes_of_every_layer_are_told_together() {
    let toml = "[server]\nlisten = \"8080\"\nlistn = 1\n[sever]\nx = 1\n[engine]\nkind = \"clutser\"\n";
    let environment = [("AGENTRY_LISTN", "x"), ("AGENTRY_SLOTS", "many"), ("AGENTRY_ZEBRA", "1")];
    let problems = load(toml, &environment, &[("drain", "long"), ("rolle", "api")]).unwrap_err();
    insta::assert_snapshot!("settings", problems.trim_end());
}

#[test]
fn broken_toml_points_at_the_place() {
    let problems = load("[server\nlisten = 1\n", &[], &[]).unwrap_err();
    assert!(problems.contains("agentry.toml:1:") && problems.contains("this is not TOML"), "{problems}");
}

#[test]
fn a_named_file_must_exist() {
    let sources = Sources { flags: pairs(&[("config", "no/such.toml")]), environment: Vec::new() };
    let problems = Settings::load(&sources).unwrap_err();
    assert!(problems[0].to_string().contains("no/such.toml"), "{}", problems[0]);
}

#[test]
fn secrets_are_read_and_never_shown() {
    let environment = [("OPENAI_API_KEY", "sk-secret-1"), ("AGENTRY_CALLBACK_SECRET", "whsec-2")];
    let settings = load("", &environment, &[]).unwrap();
    assert_eq!(settings.openai_api_key.as_ref().unwrap().expose_secret(), "sk-secret-1");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("sk-secret-1") && !shown.contains("whsec-2"), "{shown}");
}

/// Neither the settings nor their problems show an address that contains a password.
#[test]
fn addresses_of_servers_are_secrets() {
    let environment = [
        ("AGENTRY_POSTGRES_URL", "postgres://agentry:pg-pass@db:5432/agentry"),
        ("AGENTRY_REDIS_URL", "redis://:redis-pass@cache:6379/0"),
        ("AGENTRY_RABBITMQ_URL", "amqp://agentry:mq-pass@mq:5672/%2f"),
    ];
    let settings = load("[engine]\nkind = \"cluster\"\n", &environment, &[]).unwrap();
    let cluster = settings.cluster().unwrap();
    assert_eq!(cluster.postgres_url.expose_secret(), "postgres://agentry:pg-pass@db:5432/agentry");
    let shown = format!("{settings:?} {cluster:?}");
    assert!(["pg-pass", "redis-pass", "mq-pass"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    let bad = [("AGENTRY_POSTGRES_URL", "mysql://u:pg-pass@db"), ("AGENTRY_RABBITMQ_URL", "https://u:mq-pass@mq")];
    let problems = load("[redis]\nurl = \"http://:redis-pass@x\"\n", &bad, &[]).unwrap_err();
    assert!(problems.contains("postgres://user") && problems.contains("amqp://user"), "{problems}");
    assert!(problems.contains("agentry.toml:2:"), "{problems}");
    assert!(["pg-pass", "redis-pass", "mq-pass"].iter().all(|secret| !problems.contains(secret)), "{problems}");
}

#[test]
fn the_cluster_engine_says_everything_that_it_misses() {
    let settings = load("", &[], &[("engine", "cluster")]).unwrap();
    let problems: Vec<String> = settings.cluster().unwrap_err().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("cluster", problems.join("\n\n"));
    let settings = load("[rabbitmq]\nurl = \"amqp://localhost\"\n", &[], &[("engine", "cluster")]).unwrap();
    let problems = settings.cluster().unwrap_err();
    assert!(problems.len() == 1 && problems[0].to_string().contains("AGENTRY_POSTGRES_URL"), "{problems:?}");
}

#[test]
fn names_and_times_are_checked() {
    for (key, good, bad) in [
        ("postgres-schema", "agentry_2", "Agentry;"),
        ("rabbitmq-prefix", "team.agentry-1", "agentry/*"),
        ("retention", "7d", "1h"),
        ("task-retention", "forever", "never"),
        ("usage-retention", "800d", "23h"),
        ("postgres-connections", "2", "1"),
        ("rabbitmq-shards", "64", "65"),
        ("allow-unauthenticated", "true", "yes"),
    ] {
        assert!(load("", &[], &[(key, good)]).is_ok(), "{key} {good}");
        let problems = load("", &[], &[(key, bad)]).unwrap_err();
        assert!(problems.contains(key) && problems.contains("expected"), "{problems}");
    }
    assert_eq!(load("", &[], &[("retention", "36h")]).unwrap().retention, Duration::from_secs(36 * 3_600));
    assert_eq!(load("", &[], &[]).unwrap().retention, Duration::from_secs(86_400));
}

#[test]
fn the_reference_has_every_key_once() {
    let reference = settings_reference();
    for key in KEYS {
        assert_eq!(
            reference.lines().filter(|line| line.contains(&format!("| `{}` |", key.env))).count(),
            1,
            "{}",
            key.env
        );
    }
    let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
}

#[test]
fn the_reference_that_is_checked_in_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let text = format!(
        "# Settings\n\nFlags win over the environment, the environment over `agentry.toml`, that over defaults. In \
         `agentry.toml` a setting `table.key` stands as `key` under `[table]`. Secrets and addresses that may hold one \
         have no flag: a command line is visible to every process of a machine.\n\n{}",
        settings_reference()
    );
    if std::env::var_os("UPDATE_REFERENCES").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(checked_in == text, "docs/settings.md is stale: run with UPDATE_REFERENCES=1 and look at the difference");
}
