//! Judges the histories of all processes, merged, and measures what a picture shows.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::plan::node_of;
use convoy_conformance::checker::{Checker, Verdict};
use convoy_conformance::history::{Answer, Ended, Event, Fault, Merge, Message, Phase, What};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

const SECOND: u64 = 1_000_000_000;
/// So long after the end of a fault of the broker's it is still felt.
const SETTLES: u64 = 3 * SECOND;
/// What a run comes to.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) measured: Measured,
    /// Files that end within a record.
    pub(crate) torn: usize,
    pub(crate) disordered: u64,
    /// In which place each process was.
    pub(crate) slots: HashMap<u32, usize>,
}

/// What is counted beside the verdict. Times are nanoseconds since the first event.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    begun: u64,
    pub(crate) ended: u64,
    /// Handed over and confirmed, once each.
    pub(crate) sends_ok: u64,
    pub(crate) unknown: u64,
    /// Runs that ended well.
    pub(crate) handled: u64,
    /// A second each: sends that were confirmed, runs that ended well.
    pub(crate) seconds: Vec<[u32; 2]>,
    /// From the kill of its holder, or from the sending of the message when that was later, to the next start of a session: when, how long.
    pub(crate) takeovers: Vec<(u64, u64)>,
    /// The same by the kill: when it was, and how long each of its sessions waited.
    pub(crate) kills: BTreeMap<u64, Vec<u64>>,
    pub(crate) faults: Vec<Lasting>,
    /// From the first record of each process to its last.
    pub(crate) lives: HashMap<u32, (u64, u64)>,
    open: HashMap<(Fault, u32, convoy_conformance::history::Side), usize>,
    /// Who handled a session last.
    holders: HashMap<u64, u32>,
    /// Whose holder was killed when.
    orphans: HashMap<u64, (u32, u64)>,
    sent: HashMap<Message, u64>,
    killed: HashMap<u32, u64>,
}

/// A fault as it was recorded.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) name: &'static str,
    /// The process; 0 for the broker, and a number of its own for a node.
    pub(crate) target: u32,
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

impl Lasting {
    /// Whether it is one of the broker's own, and of no worker.
    pub(crate) fn is_of_broker(&self) -> bool {
        self.target == 0 || node_of(self.target).is_some()
    }
}

/// Reads the histories and judges them.
pub(crate) fn judge(backend: Backend, files: &[PathBuf], slots: HashMap<u32, usize>) -> Result<Judged, String> {
    let mut checker = Checker::new(backend.judged_by());
    let mut measured = Measured::default();
    let mut merge = Merge::open(files).map_err(|e| format!("histories: {e}"))?;
    for event in merge.by_ref() {
        let event = event.map_err(|e| format!("histories: {e}"))?;
        checker.push(&event);
        measured.take(&event);
    }
    let (torn, disordered) = (merge.torn().len(), merge.disordered());
    Ok(Judged { verdict: checker.finish(), measured, torn, disordered, slots })
}

impl Judged {
    /// Half, all but a hundredth, and all of the takeovers are not longer than this, in milliseconds.
    pub(crate) fn takeover_ms(&self) -> [u64; 3] {
        spread_ms(self.measured.takeovers.iter().map(|(_, took)| *took))
    }

    /// The same without those that a fault of the broker's own held up.
    pub(crate) fn calm_ms(&self) -> [u64; 3] {
        let of_broker: Vec<_> = self.measured.faults.iter().filter(|fault| fault.is_of_broker()).collect();
        // A broker that is back has its clients yet to come.
        let until = |fault: &Lasting| fault.to.map_or(u64::MAX, |to| to.saturating_add(SETTLES));
        let held_up = |from: u64, to: u64| of_broker.iter().any(|fault| fault.from < to && from < until(fault));
        let calm = self.measured.takeovers.iter().filter(|(at, took)| !held_up(at - took, *at));
        spread_ms(calm.map(|(_, took)| *took))
    }

    /// A line a kill.
    pub(crate) fn tell_kills(&self) {
        for (at, took) in &self.measured.kills {
            let [p50, p99, max] = spread_ms(took.iter().copied());
            let (seconds, sessions) = (*at as f64 / SECOND as f64, took.len());
            println!(
                "killed at {seconds:6.1} s: {sessions} sessions went elsewhere, half in {p50} ms, 99 % in {p99} ms, all in {max} ms"
            );
        }
    }
}

/// Half, all but a hundredth, and all are not above this, in milliseconds.
fn spread_ms(of: impl Iterator<Item = u64>) -> [u64; 3] {
    let mut all: Vec<u64> = of.collect();
    all.sort_unstable();
    [50, 99, 100].map(|part| all.get(all.len().saturating_sub(1) * part / 100).map_or(0, |ns| ns / 1_000_000))
}

impl Measured {
    fn take(&mut self, event: &Event) {
        if self.begun == 0 {
            self.begun = event.time;
        }
        let time = event.time.saturating_sub(self.begun);
        self.ended = self.ended.max(time);
        // Seconds in which nothing happens are there as well.
        self.second(time);
        self.lives.entry(event.process).or_insert((time, time)).1 = time;
        match event.what {
            What::SendReq { message, .. } => {
                self.sent.entry(message).or_insert(time);
            }
            What::Send { outcome, .. } => match outcome {
                Answer::Ok => {
                    self.sends_ok += 1;
                    self.second(time)[0] += 1;
                }
                Answer::Unknown => self.unknown += 1,
                _ => {}
            },
            What::Start { session, message, .. } => self.start(time, event.process, session, message),
            What::End { how: Ended::Ok, .. } => {
                self.handled += 1;
                self.second(time)[1] += 1;
            }
            What::KillSent { target } => {
                let held = self.holders.iter().filter(|(_, holder)| **holder == target);
                self.orphans.extend(held.map(|(session, _)| (*session, (target, time))));
                self.killed.insert(target, time);
            }
            What::Reaped { target } => {
                if let Some(from) = self.killed.remove(&target) {
                    self.faults.push(Lasting { name: "kill", target, from, to: Some(time) });
                }
            }
            What::Fault { fault, side, phase: Phase::Begin, target } => {
                // Several connections of one process: told once.
                if let Entry::Vacant(place) = self.open.entry((fault, target, side)) {
                    place.insert(self.faults.len());
                    self.faults.push(Lasting { name: name(fault), target, from: time, to: None });
                }
            }
            What::Fault { fault, side, target, .. } => {
                if let Some(at) = self.open.remove(&(fault, target, side))
                    && let Some(lasting) = self.faults.get_mut(at)
                {
                    lasting.to = Some(time);
                }
            }
            _ => {}
        }
    }

    fn second(&mut self, time: u64) -> &mut [u32; 2] {
        let at = usize::try_from(time / SECOND).unwrap_or(0);
        if self.seconds.len() <= at {
            self.seconds.resize(at + 1, [0; 2]);
        }
        &mut self.seconds[at]
    }

    fn start(&mut self, time: u64, process: u32, session: u64, message: Message) {
        let sent = self.sent.remove(&message);
        self.holders.insert(session, process);
        if let Some((killed, at)) = self.orphans.get(&session).copied()
            && killed != process
        {
            self.orphans.remove(&session);
            let since = sent.unwrap_or(0).max(at);
            self.takeovers.push((time, time.saturating_sub(since)));
            self.kills.entry(at).or_default().push(time.saturating_sub(since));
        }
    }
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Freeze => "freeze",
        Fault::Reset => "reset",
        Fault::Blackhole => "blackhole",
        Fault::BrokerStop => "broker restart",
        Fault::BrokerKill => "broker kill",
        Fault::BrokerFreeze => "broker freeze",
        Fault::NodeLoss => "node loss",
        Fault::Slow => "slow",
        Fault::Full => "memory alarm",
        _ => "pieces",
    }
}
