//! `keys`: API keys.

use std::time::Duration;

use agentry_api::{KeyRequest, KeyView};
use agentry_core::access::Scope;
use agentry_core::words::UnknownWord;
use secrecy::ExposeSecret as _;

use super::{LIST_LIMIT, act, list};
use crate::access::now;
use crate::cli::{KeyCommand, KeyCreateArgs, KeyInitArgs, ResourceArgs};
use crate::engine::Backends;
use crate::failure::Failure;
use crate::render::{self, OutputFormat, TableColumn, moment, shown, text};
use crate::{first_keys, out, settings};

const KEYS: &[TableColumn<KeyView>] = &[
    text("id", |key| shown(&key.id)),
    text("name", |key| shown(&key.name)),
    text("scope", |key| shown(&key.scope)),
    text("active", |key| shown(&key.active)),
    text("made", |key| moment(key.created_at)),
    text("last used", |key| moment(key.last_used_at)),
    text("expires", |key| moment(key.expires_at)),
];

pub async fn keys(verb: ResourceArgs<KeyCommand>) -> Result<(), Failure> {
    match verb.command.unwrap_or(KeyCommand::List(verb.reading)) {
        KeyCommand::List(reading) => {
            let empty = "there are no API keys, so none is needed";
            list(&reading, reading.server.client()?.keys(), LIST_LIMIT, KEYS, empty).await
        }
        KeyCommand::Create(args) if args.local => create_here(&args).await,
        KeyCommand::Create(args) => create(&args).await,
        KeyCommand::Init(args) => init(&args).await,
        KeyCommand::Rotate(args) => {
            let made = args.server.client()?.rotate_key(&args.id).await?;
            print_once(&made.key)
        }
        KeyCommand::Revoke(args) => act(&args, args.server.client()?.revoke_key(&args.id), "is revoked").await,
    }
}

/// Prints the key alone on standard output, for scripts, and advice on a terminal.
fn print_once(key: &str) -> Result<(), Failure> {
    if out::is_terminal() {
        out::eprint("keep this key: it is shown once\n");
    }
    out::line(key)
}

async fn create(args: &KeyCreateArgs) -> Result<(), Failure> {
    let key = KeyRequest { name: args.name.clone(), scope: scope(args)?, expires_days: args.expires };
    let made = args.reading.server.client()?.create_key(&key).await?;
    match args.reading.output {
        OutputFormat::Table => print_once(&made.key),
        format => render::document(format, &made),
    }
}

/// Creates a key directly in the store, for a server that does not start without one.
async fn create_here(args: &KeyCreateArgs) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    let settings = settings::of_store(args.data.as_ref(), args.engine.as_ref())?;
    let now = now();
    let expires = args.expires.map(|days| now.after(Duration::from_secs(86_400 * u64::from(days))));
    let (key, secret) = agentry_server::new_key(&args.name, scope(args)?, now, expires)?;
    let backends = Backends::open(&settings).await?;
    let added = backends.store.add_key(&key).await;
    backends.close().await;
    added.map_err(|error| Failure::new(format!("the key cannot be stored: {error}")))?;
    print_once(secret.expose_secret())
}

/// Creates the missing first keys in the store and as files.
async fn init(args: &KeyInitArgs) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    let settings = settings::of_store(args.data.as_ref(), args.engine.as_ref())?;
    let backends = Backends::open(&settings).await?;
    let found = first_keys::ensure(&*backends.store, &args.dir, now()).await;
    backends.close().await;
    found?.iter().try_for_each(|line| out::line(line))
}

fn scope(args: &KeyCreateArgs) -> Result<Scope, Failure> {
    args.scope.parse().map_err(|unknown: UnknownWord| Failure::usage(unknown.to_string()))
}
