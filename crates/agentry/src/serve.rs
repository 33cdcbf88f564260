//! `agentry serve`: runs the platform until a stop signal.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use agentry_config::{Role, Settings};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use crate::cli;
use crate::demo::LISTENING;
use crate::failure::Failure;
use crate::log::LogController;
use crate::platform::Platform;
use crate::traces::Exporter;
use crate::{engine, out, settings};

/// Runs the platform until SIGTERM or Ctrl-C, then drains; a second signal stops it at once.
pub async fn serve(args: cli::ServeArgs) -> Result<(), Failure> {
    let settings = settings::of_serve(&args)?;
    let exporter = Exporter::start(&settings.traces)?;
    let log = crate::log::start(&settings.log, settings.log_format, exporter.as_ref().map(Exporter::sink))?;
    let steering = Arc::clone(&log);
    let watching = tokio::spawn(async move { steering.watch().await });
    let served = run(&settings, args.place.sim_url, Arc::clone(&log)).await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    watching.abort();
    log.end();
    served
}

async fn run(settings: &Settings, sim_url: Option<String>, log: Arc<LogController>) -> Result<(), Failure> {
    let platform = Platform::start(settings, sim_url, log).await?;
    // Registered before the address is printed: a caller may stop the process at once.
    let mut signals = StopSignals::listen()?;
    out::line(&ready(&platform, settings))?;
    if let Some(key) = platform.first_key() {
        let key = key.expose_secret();
        out::eprint(&format!(
            "\n  API key, shown once: {key}\n  Sign in at {} with it, or set AGENTRY_API_KEY.\n\n",
            platform.url()
        ));
    }
    let broke = tokio::select! {
        () = signals.next() => None,
        broke = platform.broken() => Some(broke),
    };
    let drain = platform.drain_time();
    tracing::info!(seconds = drain.as_secs(), "draining: running tasks finish or are released");
    let drained = tokio::select! {
        drained = platform.stop(drain) => drained,
        () = signals.next() => {
            // Nothing is lost: recovery requeues running tasks, as after a crash.
            Err(Failure::new("stopped at once by a second signal").help("running tasks go on when the server is back"))
        }
    };
    broke.map_or(drained, Err)
}

/// Returns the line that reports the start, for people or for scripts that read the address.
fn ready(platform: &Platform, settings: &Settings) -> String {
    let url = platform.url();
    if !out::is_terminal() {
        return format!("{LISTENING}{url}");
    }
    let (version, agents) = (env!("CARGO_PKG_VERSION"), platform.agents());
    let plural = if agents == 1 { "" } else { "s" };
    let engine = engine::word(settings.engine);
    let mut parts = vec![format!("agentry {version}"), format!("{engine} engine")];
    if settings.roles != Role::ALL {
        let roles: Vec<&str> = settings.roles.iter().map(|role| role.as_str()).collect();
        parts.push(roles.join(", "));
    }
    parts.extend([format!("{agents} agent{plural}"), url.to_owned()]);
    parts.extend(platform.slack_simulator().map(|url| format!("Slack simulator {url}")));
    parts.join(" · ")
}

/// Receives SIGTERM and Ctrl-C.
pub struct StopSignals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl StopSignals {
    /// Registers for the signals, which no longer terminate the process.
    pub fn listen() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(format!("cannot wait for signals: {error}"));
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            Ok(Self { terminate, interrupt })
        }
        #[cfg(windows)]
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c().map_err(failed)? })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(windows)]
        self.interrupt.recv().await;
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() -> Result<(), Failure> {
    StopSignals::listen()?.next().await;
    Ok(())
}

/// Binds a listener; returns it and its address, whose port is known even if a free one was requested.
pub async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(address, &error))?;
    Ok((listener, address))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let (why, help) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "the port is in use".to_owned(),
            "agentry may already be running (try `agentry agents`), or choose another with --listen 127.0.0.1:0",
        ),
        io::ErrorKind::PermissionDenied => (
            "this user may not use the port".to_owned(),
            "ports below 1024 are reserved: choose another with --listen 127.0.0.1:8080",
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine does not have the address".to_owned(),
            "choose one that it has, for example --listen 127.0.0.1:8080",
        ),
        _ => (error.to_string(), "choose another address with --listen"),
    };
    Failure::new(format!("cannot listen on {address}: {why}")).help(help)
}
