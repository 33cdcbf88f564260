//! The server: Slack's API for the app, and the control API for tests.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::delivery::DeliveryStatus;
use super::ledger::{Ledger, SlackStats};
use super::options::{SlackOptions, Team};
use super::workspaces::{RecentMap, Workspaces};
use super::{api, control, queries, response_url, settings};
use crate::server::{self, lock};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest number of deliveries in flight; further ones are refused.
const MAX_DELIVERIES: usize = 10_000;

/// The Slack simulator. Clones share their state.
#[derive(Debug, Clone)]
pub struct SlackSim {
    inner: Arc<Simulator>,
}

#[derive(Debug)]
pub(super) struct Simulator {
    pub(super) options: SlackOptions,
    pub(super) ledger: Ledger,
    pub(super) http: reqwest::Client,
    workspaces: Mutex<Workspaces>,
    deliveries: Mutex<RecentMap<DeliveryStatus>>,
    under_way: AtomicUsize,
    changed: watch::Sender<u64>,
}

impl SlackSim {
    /// Creates a simulator.
    ///
    /// # Errors
    /// The ledger's file cannot be opened, or no workspace is given.
    pub fn new(options: SlackOptions) -> io::Result<Self> {
        if options.teams.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the Slack simulator needs at least one workspace",
            ));
        }
        // Fails when another provider is installed already, which serves as well.
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
        let mut workspaces = Workspaces::default();
        (workspaces.faults, workspaces.target) = (options.faults.clone(), options.target.clone());
        workspaces.any_thread = options.any_thread;
        let inner = Simulator {
            ledger,
            http,
            workspaces: Mutex::new(workspaces),
            deliveries: Mutex::default(),
            under_way: AtomicUsize::new(0),
            changed: watch::Sender::new(0),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Serves on `listener` until `shutdown`. The Web API is at `http://ADDRESS/api/`. The ledger is complete when this
    /// returns.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let base = format!("http://{}", listener.local_addr()?);
        let app = App { sim: Arc::clone(&self.inner), shutdown: shutdown.clone(), base: base.into() };
        server::serve(listener, router(app), shutdown).await
    }

    /// Sets the base URL of deliveries.
    pub fn set_target(&self, url: &str) {
        self.inner.workspaces().target = Some(url.to_owned());
    }

    /// Returns the counters of the ledger.
    #[must_use]
    pub fn stats(&self) -> SlackStats {
        self.inner.ledger.stats()
    }

    /// Returns the last lines of the ledger (JSON Lines), oldest first.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.inner.ledger.recent()
    }

    /// Subscribes to changes of the simulator's state.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

#[derive(Clone)]
pub(super) struct App {
    pub(super) sim: Arc<Simulator>,
    pub(super) shutdown: CancellationToken,
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
        .route("/sim/deliveries/{id}", get(queries::delivery))
        .route("/sim/messages", get(queries::messages))
        .route("/sim/views", get(queries::views))
        .route("/sim/ledger", get(queries::ledger))
        .route("/sim/stats", get(queries::stats))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

impl Simulator {
    /// Locks the workspaces. A panic elsewhere leaves them usable, so a poisoned lock is ignored.
    pub(super) fn workspaces(&self) -> MutexGuard<'_, Workspaces> {
        lock(&self.workspaces)
    }

    pub(super) fn deliveries(&self) -> MutexGuard<'_, RecentMap<DeliveryStatus>> {
        lock(&self.deliveries)
    }

    pub(super) fn team(&self, id: &str) -> Option<&Team> {
        self.options.teams.iter().find(|team| team.id == id)
    }

    pub(super) fn changed(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reserves one of [`MAX_DELIVERIES`]; returns false when all are taken.
    pub(super) fn reserve_delivery(&self) -> bool {
        let taken = self.under_way.fetch_add(1, Ordering::Relaxed);
        if taken >= MAX_DELIVERIES {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
        }
        taken < MAX_DELIVERIES
    }

    pub(super) fn release_delivery(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
