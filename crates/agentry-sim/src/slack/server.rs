//! The server: Slack's side towards the app, and the control API towards tests.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::delivery::Progress;
use super::ledger::{Ledger, SlackStats};
use super::options::{SlackOptions, Team};
use super::world::{Kept, World};
use super::{api, control, response_url, settings, show};

/// The largest request that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long open connections have to end after the shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Deliveries under way at once; more are refused.
const MAX_DELIVERIES: usize = 10_000;

/// The simulator. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SlackSim {
    inner: Arc<Inner>,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Inner {
    /// How it behaves.
    pub(super) options: SlackOptions,
    /// The witness.
    pub(super) ledger: Ledger,
    /// Sends.
    pub(super) http: reqwest::Client,
    world: Mutex<World>,
    deliveries: Mutex<Kept<Progress>>,
    under_way: AtomicUsize,
    changed: watch::Sender<u64>,
}

impl SlackSim {
    /// A simulator.
    ///
    /// # Errors
    /// When the ledger's file cannot be opened, or no workspace is given.
    pub fn new(options: SlackOptions) -> io::Result<Self> {
        if options.teams.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the Slack simulator needs at least one workspace",
            ));
        }
        // Refused when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("Slackbot 1.0 (+https://api.slack.com/robots)")
            .build()
            .map_err(io::Error::other)?;
        let ledger = Ledger::open(options.ledger.as_deref())?;
        let mut world = World::default();
        (world.faults, world.target) = (options.faults.clone(), options.target.clone());
        world.any_thread = options.any_thread;
        let inner = Inner {
            ledger,
            http,
            world: Mutex::new(world),
            deliveries: Mutex::default(),
            under_way: AtomicUsize::new(0),
            changed: watch::Sender::new(0),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Plays Slack on `listener` until `shutdown`. The Web API is at `http://ADDRESS/api/`. The ledger is complete when
    /// this returns.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let base = format!("http://{}", listener.local_addr()?);
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
        });
        let app = App { sim: Arc::clone(&self.inner), shutdown: shutdown.clone(), base: base.into() };
        let server = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let end = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            result = server.into_future() => result,
            () = end => Ok(()),
        }
    }

    /// Where things are sent from now on.
    pub fn set_target(&self, url: &str) {
        self.inner.world().target = Some(url.to_owned());
    }

    /// What happened so far, in sums.
    #[must_use]
    pub fn stats(&self) -> SlackStats {
        self.inner.ledger.stats()
    }

    /// The last lines of the ledger (JSON Lines), oldest first.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.inner.ledger.recent()
    }

    /// Changes whenever anything has happened.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

/// What a handler gets.
#[derive(Clone)]
pub(super) struct App {
    /// The simulator.
    pub(super) sim: Arc<Inner>,
    /// Cancelled when it ends.
    pub(super) shutdown: CancellationToken,
    /// Its own address.
    pub(super) base: Arc<str>,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/api/{method}", any(api::call))
        .route("/response/{team}/{id}", post(response_url::respond))
        .route("/sim/events", post(control::events))
        .route("/sim/commands", post(control::commands))
        .route("/sim/clicks", post(control::clicks))
        .route("/sim/submissions", post(control::submissions))
        .route("/sim/challenge", post(control::challenge))
        .route("/sim/target", post(settings::target))
        .route("/sim/faults", post(settings::faults).delete(settings::no_faults))
        .route("/sim/deliveries/{id}", get(show::delivery))
        .route("/sim/messages", get(show::messages))
        .route("/sim/views", get(show::views))
        .route("/sim/ledger", get(show::ledger))
        .route("/sim/stats", get(show::stats))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

/// A response that is never sent: the server drops a head that it has not written when the body fails at once.
pub(super) fn no_answer() -> Response {
    let end = stream::once(std::future::ready(Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted))));
    Body::from_stream(end).into_response()
}

impl Inner {
    /// All workspaces. A panic elsewhere leaves them whole enough to go on.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent.
    pub(super) fn deliveries(&self) -> MutexGuard<'_, Kept<Progress>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A workspace.
    pub(super) fn team(&self, id: &str) -> Option<&Team> {
        self.options.teams.iter().find(|team| team.id == id)
    }

    /// Wakes all who wait for something to happen.
    pub(super) fn changed(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Tells of everything that happens from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Room for one more delivery, when there is some.
    pub(super) fn depart(&self) -> bool {
        let taken = self.under_way.fetch_add(1, Ordering::Relaxed);
        if taken >= MAX_DELIVERIES {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
        }
        taken < MAX_DELIVERIES
    }

    /// A delivery is over.
    pub(super) fn arrive(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
