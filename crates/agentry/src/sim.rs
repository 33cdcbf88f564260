//! `agentry sim llm` and `agentry sim slack`: the simulators as servers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use agentry_api::Client;
use agentry_sim::llm::{Fault, FaultRate, LlmSim, Profile, SimOptions};
use agentry_sim::slack::{SlackOptions, SlackSim, Team};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{SimLlmArgs, SimSendArgs, SimSlackArgs, SlackAction};
use crate::demo::LISTENING;
use crate::failure::Failure;
use crate::out;
use crate::serve::{StopSignals, listen};

/// Runs the simulator until it is told to stop.
pub async fn llm(args: SimLlmArgs) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    let profile: Profile = args.profile.parse().map_err(Failure::usage)?;
    if !(0.0..=1.0).contains(&args.error_rate) {
        return Err(Failure::usage(format!("--error-rate is {}; it is a share from 0 to 1", args.error_rate)));
    }
    let mut faults = args.faults;
    if args.error_rate > 0.0 {
        faults.push(FaultRate { fault: Fault::Fail(500), share: args.error_rate });
    }
    let all: f64 = faults.iter().map(|rate| rate.share).sum();
    if all > 1.0 {
        return Err(Failure::usage(format!("the shares of all faults add up to {all}; they may add up to 1")));
    }
    let options = SimOptions {
        profile,
        seed: args.seed,
        faults,
        rate_limit: args.rate_limit,
        rpm: args.rpm,
        tpm: args.tpm,
        require_key: args.require_key,
        aws_secret: args.aws_secret,
        ledger: args.ledger,
    };
    let simulator = LlmSim::new(options).map_err(cannot_start)?;
    run(args.listen, |listener, shutdown| async move { simulator.serve(listener, shutdown).await }).await
}

/// Runs Slack until it is told to stop.
pub async fn slack(args: SimSlackArgs) -> Result<(), Failure> {
    crate::log::start_quiet()?;
    if !(args.time_scale.is_finite() && args.time_scale >= 0.0) {
        return Err(Failure::usage(format!("--time-scale is {}; it is a factor of at least 0", args.time_scale)));
    }
    if let Some(target) = args.target.as_ref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        return Err(Failure::usage(format!("--target is `{target}`, which is no address"))
            .help("give it with its scheme, for example --target http://127.0.0.1:8080"));
    }
    let token = args.bot_token.expose_secret();
    let team = |(index, id): (usize, String)| Team {
        bot_token: if index == 0 { token.to_owned() } else { format!("{token}-{id}") }.into(),
        id,
    };
    let options = SlackOptions {
        target: args.target,
        teams: args.teams.into_iter().enumerate().map(team).collect(),
        signing_secret: args.signing_secret,
        time_scale: args.time_scale,
        ack_timeout: Duration::from_millis(args.ack_timeout_ms),
        rate_limits: !args.no_rate_limits,
        any_thread: args.any_thread,
        faults: args.faults,
        ledger: args.ledger,
    };
    let simulator = SlackSim::new(options).map_err(cannot_start)?;
    run(args.listen, |listener, shutdown| async move { simulator.serve(listener, shutdown).await }).await
}

/// Has somebody in the simulated Slack do something, and prints what came of it.
pub async fn send(args: SimSendArgs) -> Result<(), Failure> {
    let body: Value = serde_json::from_str(&args.body).map_err(|error| {
        Failure::usage(format!("`{}` is not JSON: {error}", args.body)).help(r#"for example '{"text": "hello"}'"#)
    })?;
    let path = match args.what {
        SlackAction::Event => "events",
        SlackAction::Command => "commands",
        SlackAction::Click => "clicks",
        SlackAction::Submission => "submissions",
        SlackAction::Challenge => "challenge",
        SlackAction::Target => "target",
        SlackAction::Fault => "faults",
    };
    let client = Client::builder(&args.url).build()?;
    let call = client.call::<Value>(Method::POST, &["sim", path]);
    let told = call.query(&json!({"wait": true})).json(&body).await?;
    if told.is_null() {
        return Ok(());
    }
    out::line(&format!("{told:#}"))?;
    if told["delivered"] == false { Err(Failure::Reported) } else { Ok(()) }
}

fn cannot_start(error: io::Error) -> Failure {
    Failure::new(error.to_string()).help("choose a file in a folder that can be written with --ledger")
}

/// Listens, says where, and serves until a signal comes.
async fn run<F>(address: SocketAddr, serve: impl FnOnce(TcpListener, CancellationToken) -> F) -> Result<(), Failure>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (listener, address) = listen(address).await?;
    let mut signals = StopSignals::listen()?;
    out::line(&format!("{LISTENING}http://{address}"))?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, shutdown.clone()));
    signals.next().await;
    shutdown.cancel();
    let served = serving.await.map_err(|error| Failure::new(format!("the simulator broke: {error}")))?;
    served.map_err(|error| Failure::new(format!("the simulator's listener broke: {error}")))
}
