//! `keys`: who may do what.

use std::time::{Duration, SystemTime};

use agentry_api::{KeyRequest, KeyView};
use agentry_core::access::Scope;
use agentry_core::time::Timestamp;
use agentry_core::words::UnknownWord;
use secrecy::ExposeSecret as _;

use super::{LIST_LIMIT, act, list};
use crate::cli::{KeyCreate, KeyInit, Keys, Verb};
use crate::engine::Backends;
use crate::failure::Failure;
use crate::render::{self, Column, Format, moment, shown, text};
use crate::{first_keys, out, settings};

const KEYS: &[Column<KeyView>] = &[
    text("id", |key| shown(&key.id)),
    text("name", |key| shown(&key.name)),
    text("scope", |key| shown(&key.scope)),
    text("active", |key| shown(&key.active)),
    text("made", |key| moment(key.created_at)),
    text("last used", |key| moment(key.last_used_at)),
    text("expires", |key| moment(key.expires_at)),
];

pub async fn keys(verb: Verb<Keys>) -> Result<(), Failure> {
    match verb.command.unwrap_or(Keys::List(verb.reading)) {
        Keys::List(reading) => {
            let empty = "there are no API keys, so none is needed";
            list(&reading, reading.server.client()?.keys(), LIST_LIMIT, KEYS, empty).await
        }
        Keys::Create(args) if args.local => create_here(&args).await,
        Keys::Create(args) => create(&args).await,
        Keys::Init(args) => init(&args).await,
        Keys::Rotate(args) => {
            let made = args.server.client()?.rotate_key(&args.id).await?;
            print_once(&made.key)
        }
        Keys::Revoke(args) => act(&args, args.server.client()?.revoke_key(&args.id), "is revoked").await,
    }
}

/// The key by itself on standard output, so that a script can take it; the advice where a person reads it.
fn print_once(key: &str) -> Result<(), Failure> {
    if out::is_terminal() {
        out::complain("keep this key: it is shown once\n");
    }
    out::line(key)
}

async fn create(args: &KeyCreate) -> Result<(), Failure> {
    let key = KeyRequest { name: args.name.clone(), scope: scope(args)?, expires_days: args.expires };
    let made = args.reading.server.client()?.create_key(&key).await?;
    match args.reading.output {
        Format::Table => print_once(&made.key),
        format => render::document(format, &made),
    }
}

/// Writes a key into the store itself: the first one of a server that is not to be without.
async fn create_here(args: &KeyCreate) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    let settings = settings::of_store(args.data.as_ref(), args.engine.as_ref())?;
    let now = now();
    let expires = args.expires.map(|days| now.after(Duration::from_secs(86_400 * u64::from(days))));
    let (key, secret) = agentry_server::new_key(&args.name, scope(args)?, now, expires).map_err(Failure::usage)?;
    let backends = Backends::open(&settings).await?;
    let added = backends.store.add_key(&key).await;
    backends.close().await;
    added.map_err(|error| Failure::new(format!("the key cannot be kept: {error}")))?;
    print_once(secret.expose_secret())
}

/// Writes what is missing into the store itself and into files.
async fn init(args: &KeyInit) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    let settings = settings::of_store(args.data.as_ref(), args.engine.as_ref())?;
    let backends = Backends::open(&settings).await?;
    let found = first_keys::ensure(&*backends.store, &args.dir, now()).await;
    backends.close().await;
    found?.iter().try_for_each(|line| out::line(line))
}

fn scope(args: &KeyCreate) -> Result<Scope, Failure> {
    args.scope.parse().map_err(|unknown: UnknownWord| Failure::usage(unknown.to_string()))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
