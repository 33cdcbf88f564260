//! Refused migrations, and their messages.

use std::path::Path;

use agentry_store::contract::build::{T0, accept, task};
use agentry_store::migrate::{MigrateError, Migration, count, migrate};
use agentry_store::postgres::PostgresOptions;
use agentry_store::sqlite::DATABASE_FILE;

use super::{filled, sqlite};
use crate::schema::{Schema, client};

/// Asserts that an error names the cause and the way out.
fn says(error: &MigrateError, thing: &str, way_out: &str) {
    let (text, help) = (error.to_string(), error.help());
    assert!(text.contains(thing), "{text}");
    assert!(help.contains(way_out), "{help}");
}

/// Makes the server change rows of a table as they arrive.
async fn tamper(schema: &Schema, table: &str, body: &str) {
    schema
        .run(&format!(
            "CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER tamper BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION tamper()"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_changed_on_its_way_rolls_everything_back() {
    let (folder, _) = filled().await;
    let changes = [
        ("journal", "NEW.body := replace(NEW.body, 'plain', 'plaim'); RETURN NEW;"),
        ("ledger", "IF NEW.cost = 100 THEN NEW.cost := 101; END IF; RETURN NEW;"),
        ("open_tasks", "NEW.seq := 1000 - NEW.seq; RETURN NEW;"),
        ("messages", "IF NEW.number = 2 THEN RETURN NULL; END IF; RETURN NEW;"),
        ("clarifications", "NEW.resolution := NULL; RETURN NEW;"),
    ];
    for (table, body) in changes {
        let schema = Schema::new();
        drop(schema.store().await);
        tamper(&schema, table, body).await;
        let error = schema.migrate_from(folder.path()).await.unwrap_err();
        assert!(matches!(&error, MigrateError::Mismatch { table: found, .. } if *found == table), "{table}: {error:?}");
        says(&error, &format!("`{table}` did not arrive as it was read"), "trigger");
        assert!(schema.is_empty().await, "nothing of it is there");
        // Without the trigger it is moved.
        schema.run(&format!("DROP TRIGGER tamper ON {table}")).await;
        schema.migrate_from(folder.path()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_on_the_way_leaves_nothing() {
    let ((folder, _), schema) = (filled().await, Schema::new());
    drop(schema.store().await);
    tamper(&schema, "outbox", "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW;").await;
    says(&schema.migrate_from(folder.path()).await.unwrap_err(), "`outbox`: ", "run this again");
    assert!(schema.is_empty().await);
    schema.run("DROP TRIGGER tamper ON outbox").await;
    schema.migrate_from(folder.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_empty_is_left_alone() {
    let ((folder, _), schema) = (filled().await, Schema::new());
    let store = schema.store().await;
    let there = accept(&store, task(T0)).await;
    let error = schema.migrate_from(folder.path()).await.unwrap_err();
    says(&error, &format!("schema `{}` holds state already: 1 tasks, 1 open_tasks", schema.0), "--postgres-schema");
    says(&error, "holds state", &format!("DROP SCHEMA {} CASCADE", schema.0));
    let dry = count(folder.path().to_owned(), Some(&schema.options()), |_| {}).await.unwrap_err();
    assert_eq!(dry.to_string(), error.to_string());
    assert_eq!(store.tasks(&Default::default(), None, 10).await.unwrap().items[0].task.id, there);
    assert_eq!(store.counts().await.unwrap().queued, 1);
    // The second migration is refused because of the first one's rows.
    let schema = Schema::new();
    schema.migrate_from(folder.path()).await.unwrap();
    assert!(matches!(schema.migrate_from(folder.path()).await, Err(MigrateError::NotEmpty { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_written_to_is_not_waited_for() {
    let ((folder, _), schema) = (filled().await, Schema::new());
    drop(schema.store().await);
    let mut other = client().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute(&format!("LOCK TABLE {}.events IN ROW EXCLUSIVE MODE", schema.0)).await.unwrap();
    let error = schema.migrate_from(folder.path()).await.unwrap_err();
    assert!(matches!(error, MigrateError::Busy { .. }), "{error:?}");
    says(&error, &schema.0, "stop the servers");
    tx.rollback().await.unwrap();
    schema.migrate_from(folder.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_leaves_no_trace() {
    let ((folder, _), schema) = (filled().await, Schema::new());
    let report = count(folder.path().to_owned(), Some(&schema.options()), |_| {}).await.unwrap();
    assert!(report.rows() > 0 && report.tables.iter().all(|table| !table.verified));
    let row = client().await.query_one("SELECT to_regnamespace($1) IS NULL", &[&schema.0]).await.unwrap();
    assert!(row.get::<_, bool>(0), "not even the schema was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_or_none_is_refused() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), Schema::new());
    let store = sqlite(folder.path());
    let error = schema.migrate_from(folder.path()).await.unwrap_err();
    says(&error, &format!("another agentry (pid {}) uses the data folder", std::process::id()), "stop that server");
    drop(store);

    let missing = folder.path().join("missing");
    says(&schema.migrate_from(&missing).await.unwrap_err(), "there is no data folder", "--from");
    assert!(!missing.exists());
    std::fs::create_dir(&missing).unwrap();
    says(&schema.migrate_from(&missing).await.unwrap_err(), "it holds no agentry.db", "--from");
    assert_eq!(std::fs::read_dir(&missing).unwrap().count(), 0, "nothing was made in it");
}

fn alter(folder: &Path, sql: &str) {
    rusqlite::Connection::open(folder.join(DATABASE_FILE)).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_of_other_versions_are_refused_on_both_sides() {
    let schema = Schema::new();
    for (version, way_out) in [(99, "newer"), (0, "agentry serve")] {
        let (folder, _) = filled().await;
        alter(folder.path(), &format!("PRAGMA user_version = {version}"));
        let error = schema.migrate_from(folder.path()).await.unwrap_err();
        says(&error, &format!("has schema {version}, and this agentry reads schema"), way_out);
    }
    let (folder, _) = filled().await;
    drop(schema.store().await);
    schema.run("INSERT INTO schema_versions (version) VALUES (99)").await;
    says(&schema.migrate_from(folder.path()).await.unwrap_err(), "is of version 99", "nothing was moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_folder_is_named_with_its_row() {
    let schema = Schema::new();
    let damages = [
        ("DELETE FROM task_bodies WHERE seq = 2", "row 2 of `tasks`", "`created_at` is missing"),
        (
            "UPDATE journal SET task = 9999 WHERE (task, seq) = (SELECT min(task), 1 FROM journal)",
            "of `journal`",
            "`task` is missing",
        ),
        ("DELETE FROM task_outcomes", "row 1 of `ended_tasks`", "`outcome` is missing"),
        ("UPDATE tasks SET attempt = 5000000000 WHERE seq = 1", "row 1 of `open_tasks`", "beyond its range"),
        (
            "UPDATE outbox SET id = x'00' WHERE seq = (SELECT min(seq) FROM outbox)",
            "row 1 of `outbox`",
            "an id of 1 bytes",
        ),
    ];
    for (sql, row, why) in damages {
        let (folder, _) = filled().await;
        alter(folder.path(), sql);
        let error = schema.migrate_from(folder.path()).await.unwrap_err();
        says(&error, row, "backup");
        says(&error, why, "backup");
        assert!(schema.is_empty().await);
    }
    let (folder, _) = filled().await;
    std::fs::write(folder.path().join(DATABASE_FILE), "no database ".repeat(1_000)).unwrap();
    says(&schema.migrate_from(folder.path()).await.unwrap_err(), "cannot read", "check the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_nowhere_are_told_without_their_password() {
    let (folder, _) = filled().await;
    let to = |url: &str| Migration { from: folder.path().to_owned(), to: PostgresOptions::new(url) };
    let closed = migrate(&to("postgres://ada:hunter2@127.0.0.1:1/agentry"), |_| {}).await.unwrap_err();
    says(&closed, "cannot connect to PostgreSQL at 127.0.0.1:1/agentry: ", "address, user, password");
    assert!(!closed.is_usage());
    let none = migrate(&to("mysql://ada:hunter2@127.0.0.1/agentry"), |_| {}).await.unwrap_err();
    assert!(none.is_usage(), "{none:?}");
    for error in [closed, none] {
        assert!(!format!("{error} {error:?} {}", error.help()).contains("hunter2"), "{error:?}");
    }
}
