//! How far it is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use convoy::Snapshot;
use indicatif::{ProgressBar, ProgressStyle};

/// So far apart are the lines.
const EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    told: Instant,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages  {msg}");
            let bar = ProgressBar::new(total as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, total, told: Instant::now() }
    }

    pub(crate) fn show(&mut self, done: u64, now: &Snapshot) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} handlers at once, {} retries", now.running, now.retried));
            bar.set_position(done);
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            say!("{done} of {} messages, {} handlers at once, {} retries", self.total, now.running, now.retried);
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
