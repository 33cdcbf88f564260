//! `agentry sim llm`: the LLM simulator as a server.

use agentry_sim::llm::{Fault, FaultRate, LlmSim, Profile, SimOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::SimLlm;
use crate::demo::LISTENING;
use crate::failure::Failure;
use crate::out;
use crate::serve::{StopSignals, listen};

/// Runs the simulator until it is told to stop.
///
/// # Errors
/// When it cannot listen or its ledger cannot be opened.
pub async fn llm(args: SimLlm) -> Result<(), Failure> {
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
        ledger: args.ledger,
    };
    let simulator = LlmSim::new(options).map_err(|error| {
        Failure::new(error.to_string()).help("choose a file in a folder that can be written with --ledger")
    })?;
    let (listener, address) = listen(args.listen).await?;
    let mut signals = StopSignals::listen()?;
    out::line(&format!("{LISTENING}http://{address}"))?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(simulator, listener, shutdown.clone()));
    signals.next().await;
    shutdown.cancel();
    serving.await.map_err(|error| Failure::new(format!("the simulator broke: {error}")))?
}

async fn serve(simulator: LlmSim, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Failure> {
    simulator
        .serve(listener, shutdown)
        .await
        .map_err(|error| Failure::new(format!("the simulator's listener broke: {error}")))
}
