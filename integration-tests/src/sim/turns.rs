//! Whose turn it is: sessions with something to do start in the order in which they became ready.

use convoy_core::engine::{How, Note};

use super::env::{Env, tell};
use super::names::{SESSIONS, session_key};
use super::process::Process;

/// What is seen, from outside, of who waits.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    starts: u32,
    /// Messages buffered.
    depth: [u16; SESSIONS],
    runs: [bool; SESSIONS],
    /// The number of starts when it became ready, plus one.
    since: [u32; SESSIONS],
}

impl Turns {
    pub(crate) fn clear(&mut self) {
        self.since = [0; SESSIONS];
    }

    fn ready(&mut self, at: usize) {
        if self.depth[at] > 0 && !self.runs[at] && self.since[at] == 0 {
            self.since[at] = self.starts + 1;
        }
    }

    pub(crate) fn note(&mut self, env: &Env, note: &Note) {
        match note {
            Note::Delivered { grant, session, .. } => {
                let Some(at) = Process::slot_of(session_key(session)) else { return };
                self.depth[at] += 1;
                if env.rights[(grant.epoch() - 1) as usize].proved && self.depth[at] == 1 {
                    self.ready(at);
                }
            }
            Note::SettleRequested { session, how, .. } => {
                let Some(at) = Process::slot_of(session_key(session)) else { return };
                self.depth[at] = self.depth[at].saturating_sub(1);
                self.since[at] = 0;
                // Behind a dead letter it waits until that is settled: for how long is not seen from here.
                self.runs[at] = *how != How::Completed;
                self.ready(at);
            }
            Note::Lost { .. } => {
                self.depth = [0; SESSIONS];
                // Whether one runs is not known any more: none is taken to wait before it was seen to end.
                self.runs = [true; SESSIONS];
                self.clear();
            }
            // For how long it waits then is up to the broker's answers.
            Note::HeldBack { session, .. } => {
                if let Some(at) = Process::slot_of(session_key(session)) {
                    (self.since[at], self.runs[at]) = (0, true);
                }
            }
            Note::Retrying { session, .. } => {
                if let Some(at) = Process::slot_of(session_key(session)) {
                    self.since[at] = 0;
                }
            }
            _ => {}
        }
    }

    /// A session starts. If it waited while others had several turns, it was starved.
    ///
    /// Pull loops hold their sessions for as long as they like: there nothing is judged.
    pub(crate) fn start(&mut self, env: &mut Env, session: u64, pulled: bool) {
        self.starts += 1;
        let Some(at) = Process::slot_of(session) else { return };
        let since = std::mem::replace(&mut self.since[at], 0);
        self.runs[at] = true;
        let others = u32::from(env.plan.sessions) + u32::from(env.plan.malformed) + 2;
        if !pulled && since > 0 && self.starts - since > others {
            tell!(env, "session {session} waited for {} starts", self.starts - since);
            env.tally.starved += 1;
        }
    }
}
