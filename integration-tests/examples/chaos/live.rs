//! What is going on, for whoever looks: one line that changes on a terminal, one now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::stage::Stage;

const ELSEWHERE: Duration = Duration::from_secs(10);

/// The line.
#[derive(Debug)]
pub(crate) struct Live {
    begun: Instant,
    last: Option<(Instant, u64)>,
    terminal: bool,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), last: None, terminal: std::io::stdout().is_terminal() }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, stage: &Stage, what: &str) {
        let now = Instant::now();
        let every = if self.terminal { Duration::from_millis(500) } else { ELSEWHERE };
        let handled = stage.sum(|totals| &totals.completed);
        let (since, before) = self.last.unwrap_or((self.begun, 0));
        if self.last.is_some() && now - since < every {
            return;
        }
        let rate = handled.saturating_sub(before) as f64 / (now - since).as_secs_f64().max(0.001);
        self.last = Some((now, handled));
        let line = format!(
            "{:4} s  {what}  sent {} (unknown {})  handled {handled} ({rate:.0}/s)",
            (now - self.begun).as_secs(),
            stage.sum(|totals| &totals.ok),
            stage.sum(|totals| &totals.unknown),
        );
        let mut out = std::io::stdout().lock();
        let (from, to) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // Whoever read our output may have gone; the run goes on.
        let _ = write!(out, "{from}{line}{to}").and_then(|()| out.flush());
    }

    /// What follows stands on lines of its own.
    pub(crate) fn end(&self) {
        if self.terminal {
            println!();
        }
    }
}
