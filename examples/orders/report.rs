//! What it came to: the table, the dead letters, the verdict of the suite's checker.

use std::collections::HashSet;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use convoy::backend::DeadLetter;
use convoy::{Broker, MessageId, Report};
use convoy_conformance::checker::{Checker, Options, Verdict};
use convoy_conformance::history::{Recorder, Store, What};
use convoy_conformance::watch;

use crate::CHANNEL;
use crate::history::History;

pub(crate) struct Outcome {
    pub(crate) sessions: usize,
    pub(crate) messages: usize,
    pub(crate) malformed: usize,
    pub(crate) took: Duration,
    pub(crate) busy: Duration,
    pub(crate) peak: usize,
    pub(crate) ended: String,
    pub(crate) closed: bool,
    pub(crate) verdict: Verdict,
    pub(crate) report: Report,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) poison: HashSet<MessageId>,
    /// Of this run's messages.
    pub(crate) completed: u64,
    /// Messages of earlier runs that were handled beside them.
    pub(crate) left_over: u64,
}

/// The dead letters of the group, all of them.
pub(crate) async fn dead_letters(broker: &Broker, group: &str) -> Result<Vec<DeadLetter>, convoy::Error> {
    const PAGE: usize = 1000;
    let store = broker.dead_letters(CHANNEL, group).await?;
    let mut all: Vec<DeadLetter> = Vec::new();
    loop {
        let from = all.last().map_or(0, |last| last.at + 1);
        let page = store.list(from, PAGE).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// What a run is judged by: whether its broker gives positions, after how many attempts a message may be dead-lettered, and whether all of it was to be handled.
pub(crate) fn rules(url: &str, attempts: Option<u32>, whole: bool) -> Options {
    let mut options = if url.starts_with("amqp") { Options::partial() } else { Options::total() };
    (options.dead_read, options.max_attempts, options.settled_by_end) = (true, attempts.unwrap_or(0), whole);
    options
}

/// Has the suite's checker judge what was recorded.
pub(crate) fn judge(history: &History, dead: &[DeadLetter], rules: Options) -> Verdict {
    for letter in dead {
        let (session, message) = (watch::key(&letter.session), watch::stamped(&letter.content));
        let time = convoy::runtime::now().as_nanos();
        history.record(time, 1, What::Stored { session, message, store: Store::Dead });
    }
    let mut checker = Checker::new(rules);
    for event in history.take() {
        checker.push(&event);
    }
    checker.finish()
}

impl Outcome {
    /// Prints it, and says whether it held.
    pub(crate) fn print(&self) -> bool {
        let last = &self.report.last;
        let (elapsed, busy) = (self.took.as_secs_f64(), self.busy.as_secs_f64());
        let times = if elapsed > 0.0 { busy / elapsed } else { 0.0 };
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        for (name, value) in [
            ("sessions", self.sessions.to_string()),
            ("messages", self.messages.to_string()),
            ("handlers at once, peak", self.peak.to_string()),
            ("time", format!("{elapsed:.2} s")),
            ("one at a time (all handlers added)", format!("{busy:.2} s, {times:.1} times as long")),
            ("retries", last.retried.to_string()),
            ("dead letters", self.dead.len().to_string()),
            ("malformed lines", self.malformed.to_string()),
            ("order violations", self.verdict.fatal_total().to_string()),
        ] {
            table.add_row([name, value.as_str()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        say!("{table}");
        for letter in &self.dead {
            let (code, attempts, detail) = (&letter.code, letter.attempts, &letter.detail);
            say!("dead letter: session {}: {code} after {attempts} attempts: {detail}", letter.session);
        }
        if self.left_over > 0 {
            say!("{} messages that an earlier run left at the broker were handled too", self.left_over);
        }
        let wrong = self.wrong();
        for what in &wrong {
            say!("DOES NOT HOLD: {what}");
        }
        say!(
            "RESULT example=orders sessions={} messages={} violations={} retries={} dead_letters={} malformed={} peak={} \
             seconds={elapsed:.3} one_at_a_time={busy:.3} completed={} events={} held={}",
            self.sessions,
            self.messages,
            self.verdict.fatal_total(),
            last.retried,
            self.dead.len(),
            self.malformed,
            self.peak,
            self.completed,
            self.verdict.events(),
            wrong.is_empty(),
        );
        wrong.is_empty()
    }

    /// What does not hold.
    fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.verdict.findings().iter().map(ToString::to_string).collect();
        let (completed, dead) = (self.completed, self.dead.len());
        if self.messages == 0 {
            wrong.push("there was no message".to_owned());
        }
        if completed + dead as u64 != self.messages as u64 {
            wrong.push(format!(
                "{} messages, {completed} completed, {dead} dead letters: {}",
                self.messages, self.ended
            ));
        }
        let letters: HashSet<MessageId> = self.dead.iter().map(|letter| letter.content.id()).collect();
        if letters != self.poison {
            let others = letters.difference(&self.poison).count();
            let missing = self.poison.difference(&letters).count();
            wrong.push(format!("{others} dead letters were not asked for, {missing} are missing"));
        }
        if !self.verdict.is_live() {
            wrong.push("the checker found something that was left hanging".to_owned());
        }
        if !self.report.drained || !self.closed {
            wrong.push("it did not end cleanly".to_owned());
        }
        wrong
    }
}
