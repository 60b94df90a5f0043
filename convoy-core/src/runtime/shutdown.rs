//! The wish of a terminal or an orchestrator that this process ends.

/// Resolves when the process is asked to end: SIGINT (Ctrl-C) or SIGTERM; elsewhere than on Unix, Ctrl-C. For
/// [`run_until`](crate::ProcessorBuilder::run_until).
///
/// From its first poll on these signals no longer end the process by themselves, a second one neither: what ends it is the drain and its limit.
/// When the system lets nobody listen to them it says so and never resolves.
///
/// # Panics
/// Outside of a tokio runtime, and on one without its I/O driver.
///
/// # Cancel safety
/// Cancel safe.
pub async fn shutdown_signal() {
    if let Err(error) = asked_to_end().await {
        tracing::error!(%error, "cannot listen to the signals that end this process");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn asked_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn asked_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
