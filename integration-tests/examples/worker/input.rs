//! What the program that started this one wants of it.

use std::io::BufRead;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// Send the rest as fast as it goes.
    pub(crate) hurry: bool,
    /// Drain and end.
    pub(crate) drain: bool,
}

/// Listens to standard input, on a thread of its own, since a read of it cannot be given up and must keep nobody from ending; and to `SIGTERM`, all the
/// time, since a signal that comes while nobody listens is lost, and one that comes before ends the process. From here on it can be asked, and says so.
pub(crate) fn listen() -> watch::Receiver<Wanted> {
    let (tell, told) = watch::channel(Wanted::default());
    let tell = Arc::new(tell);
    let by_signal = Arc::clone(&tell);
    let mut signal = Box::pin(convoy_core::shutdown_signal());
    // The handler stands once it was polled.
    let early = (&mut signal).now_or_never().is_some();
    tokio::spawn(async move {
        if !early {
            signal.await;
        }
        by_signal.send_modify(|wanted| wanted.drain = true);
    });
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref().map(str::trim) {
                Ok("hurry") => tell.send_modify(|wanted| wanted.hurry = true),
                Ok("drain") | Err(_) => break,
                Ok(_) => {}
            }
        }
        tell.send_modify(|wanted| wanted.drain = true);
    });
    println!("up=true");
    told
}

/// Waits until it is to end.
pub(crate) async fn asked_to_end(wanted: &mut watch::Receiver<Wanted>) {
    // It fails only when nobody is left who could ask.
    let _ = wanted.wait_for(|wanted| wanted.drain).await;
}
