//! `agentry migrate`: migrates the embedded store to PostgreSQL and verifies the result.

use std::time::{Duration, Instant};

use agentry_config::Settings;
use agentry_store::migrate::{MigrateError, Migration, Progress, Report};
use agentry_store::postgres::PostgresOptions;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::cli;
use crate::failure::Failure;
use crate::render::{self, OutputFormat, TableColumn, at, number, text};
use crate::{out, settings};

/// Interval of progress lines of a long table.
const PRINT_INTERVAL: Duration = Duration::from_secs(1);

/// The form of an address.
const ADDRESS_FORM: &str = "postgres://user:password@host:5432/database";

const COLUMNS: [TableColumn; 4] = [
    text("what", |row| at(row, "/table")),
    number("rows", |row| at(row, "/rows")),
    text("checksum", |row| at(row, "/checksum")),
    text("ok", |row| if row["verified"] == true { "yes" } else { "not moved" }.to_owned()),
];

/// Migrates, or only counts.
pub async fn migrate(args: cli::MigrateArgs) -> Result<(), Failure> {
    check_address(args.to.as_deref())?;
    let settings = settings::of_migrate(&args)?;
    let (from, to) = (settings.data.clone(), target(&settings));
    let started = Instant::now();
    let mut printer = ProgressPrinter { printed: started, last: None };
    let report = if args.dry_run {
        agentry_store::migrate::count(from, to.as_ref(), |now| printer.print(now)).await
    } else {
        let to = to.ok_or_else(|| {
            Failure::usage("no PostgreSQL is named to move to")
                .help(format!("name it with --to {ADDRESS_FORM}, or set AGENTRY_POSTGRES_URL"))
        })?;
        agentry_store::migrate::migrate(&Migration { from, to }, |now| printer.print(now)).await
    };
    let report = report.map_err(|error| failure(&error))?;
    show(&args, &settings, &report, started.elapsed())
}

/// Settings would say the same of a setting, whose name is not that of the flag. What was given may hold a password.
fn check_address(to: Option<&str>) -> Result<(), Failure> {
    if to.is_none_or(|to| to.starts_with("postgres://") || to.starts_with("postgresql://")) {
        return Ok(());
    }
    Err(Failure::usage("what --to names is not a PostgreSQL server").help(format!("expected --to {ADDRESS_FORM}")))
}

fn target(settings: &Settings) -> Option<PostgresOptions> {
    let url = settings.postgres_url.as_ref()?.expose_secret();
    Some(PostgresOptions { schema: settings.postgres_schema.clone(), ..PostgresOptions::new(url) })
}

fn failure(error: &MigrateError) -> Failure {
    let text = error.to_string();
    let failure = if error.is_usage() { Failure::usage(text) } else { Failure::new(text) };
    failure.help(error.help())
}

fn show(args: &cli::MigrateArgs, settings: &Settings, report: &Report, took: Duration) -> Result<(), Failure> {
    let rows: Vec<Value> = report.tables.iter().map(|table| json!(table)).collect();
    if args.output != OutputFormat::Table {
        let counts = report.counts;
        let shown = json!({
            "from": settings.data.display().to_string(),
            "schema": settings.postgres_schema,
            "moved": !args.dry_run,
            "rows": report.rows(),
            "tables": rows,
            "tasks": {"queued": counts.queued, "running": counts.running, "waiting": counts.waiting},
            "seconds": took.as_secs_f64(),
        });
        return render::document(args.output, &shown);
    }
    render::rows(&rows, &COLUMNS, "")?;
    let (rows, took) = (report.rows(), render::duration(took));
    out::eprint(&if args.dry_run {
        format!("{rows} rows can be moved (read in {took}); nothing was\n")
    } else {
        let schema = &settings.postgres_schema;
        format!("{rows} rows moved to schema {schema} and found there again in {took}; go on with --engine cluster\n")
    });
    Ok(())
}

/// Progress on standard error: a line for each table that is done, and now and then one for a table that takes long.
struct ProgressPrinter {
    printed: Instant,
    last: Option<Progress>,
}

impl ProgressPrinter {
    fn print(&mut self, now: Progress) {
        let done = now.rows == now.of;
        if now.of == 0 || self.last == Some(now) || !(done || self.printed.elapsed() >= PRINT_INTERVAL) {
            return;
        }
        (self.printed, self.last) = (Instant::now(), Some(now));
        let Progress { phase, table, rows, of } = now;
        out::eprint(&format!("{:<9}{table:<15}{rows} of {of}\n", phase.as_str()));
    }
}
