//! `agentry sim llm`: the LLM simulator as a server.

use agentry_sim::llm::{LlmSim, Profile, SimOptions};
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
    let options = SimOptions {
        profile,
        seed: args.seed,
        error_rate: args.error_rate,
        rate_limit: args.rate_limit,
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
