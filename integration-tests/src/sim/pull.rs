//! Pull loops: they claim a session, take its messages one by one, flush or not, and give it back.

use convoy_core::engine::{ClaimId, Next, NotClaimed};

use super::env::Env;
use super::faults::Kind;
use super::plan::{MS, SEC};
use super::process::Process;
use super::queue::Ev;
use super::wire::Up;

/// A pull loop that holds a session.
#[derive(Debug)]
pub(crate) struct Pull {
    stage: Stage,
    claim: ClaimId,
    serial: u32,
    /// So many more messages.
    left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Over,
    /// It asks for the next message.
    Asks,
    Runs,
    Waits,
    Flushes,
}

impl Process {
    /// Takes a step with one of the loops; says whether another may follow.
    pub(crate) fn pull(&mut self, env: &mut Env) -> bool {
        if let Some(slot) = self.pulls.iter().position(|pull| pull.stage == Stage::Asks) {
            self.take_next(env, slot as u8);
            return true;
        }
        if self.claim_wanted(env) {
            return true;
        }
        let busy = self.pulls.iter().filter(|pull| pull.stage != Stage::Over).count() as u32;
        if busy.max(self.running) >= u32::from(env.plan.permits) {
            return false;
        }
        let Some(engine) = &mut self.engine else { return false };
        let claimed = engine.claim_any(env.moment());
        self.tell_notes(env);
        let Some((claim, _)) = claimed else { return false };
        self.hold(env, claim);
        true
    }

    fn hold(&mut self, env: &mut Env, claim: ClaimId) {
        self.serial += 1;
        let pull = Pull {
            stage: Stage::Asks,
            claim,
            serial: self.serial,
            left: if env.calm { 100 } else { env.rng.range(1, 8) as u8 },
        };
        match self.pulls.iter().position(|pull| pull.stage == Stage::Over) {
            Some(free) => self.pulls[free] = pull,
            None => self.pulls.push(pull),
        }
    }

    /// Sessions asked for by name.
    fn claim_wanted(&mut self, env: &mut Env) -> bool {
        if self.wants.len() < 2 && !self.draining && env.strikes(20) {
            let session = env.rng.below(u64::from(env.plan.sessions)) as u8;
            if !self.wants.contains(&session) {
                self.wants.push(session);
                if let (Some(conn), true) = (self.conn, env.plan.personality.locks_sessions()) {
                    let until = env.now + env.rng.range(10 * MS, SEC);
                    env.send_up(conn, Up::AcceptNamed(session, until));
                }
            }
        }
        for at in 0..self.wants.len() {
            let session = self.wants[at];
            let place = Self::place_of(env, session);
            let Some(engine) = &mut self.engine else { return false };
            match engine.claim_named(env.moment(), &place, &env.names.ids[session as usize]) {
                Ok((claim, _)) => {
                    self.wants.remove(at);
                    self.hold(env, claim);
                    return true;
                }
                Err(NotClaimed::NotHeld) if env.plan.personality.locks_sessions() => {}
                Err(NotClaimed::NotYet) => {}
                Err(_) => {
                    self.wants.remove(at);
                    return true;
                }
            }
        }
        false
    }

    fn take_next(&mut self, env: &mut Env, slot: u8) {
        let pull = &self.pulls[slot as usize];
        let (claim, serial, left) = (pull.claim, pull.serial, pull.left);
        if left == 0 {
            return self.let_go(env, slot);
        }
        let Some(engine) = &mut self.engine else { return };
        let next = engine.next(env.moment(), claim);
        self.tell_notes(env);
        match next {
            Next::Start(start) => {
                let pull = &mut self.pulls[slot as usize];
                (pull.stage, pull.left) = (Stage::Runs, left - 1);
                let run = self.begin(env, *start, Some((slot, serial)));
                if self.pulls[slot as usize].stage == Stage::Runs && env.strikes(15) {
                    // The loop drops its session and keeps the delivery.
                    env.saw(Kind::DeliveryOut);
                    self.runs[run as usize].pull = None;
                    self.pulls[slot as usize].stage = Stage::Over;
                    self.unclaim(env, claim);
                }
            }
            Next::Wait => {
                self.pulls[slot as usize].stage = Stage::Waits;
                // A loop that gives a session back while its head waits for another attempt forgets how many there were.
                let patience = if env.calm { 5 * SEC } else { env.rng.range(MS, 400 * MS) };
                env.after(patience, Ev::Patience(self.index, slot, serial));
            }
            Next::Blocked => self.let_go(env, slot),
            Next::Lost => self.pulls[slot as usize].stage = Stage::Over,
            _ => {}
        }
    }

    /// Gives the session back, flushed or not.
    fn let_go(&mut self, env: &mut Env, slot: u8) {
        let pull = &mut self.pulls[slot as usize];
        let claim = pull.claim;
        pull.stage = Stage::Over;
        if env.rng.permille(500) {
            pull.stage = Stage::Flushes;
            let flushes = self.engine.as_mut().is_some_and(|engine| engine.flush(env.moment(), claim));
            self.tell_notes(env);
            if flushes {
                // On a group a commit may have no room for this session until others are done: nobody waits for ever.
                let patience = env.rng.range(100 * MS, 3 * SEC);
                return env.after(patience, Ev::Patience(self.index, slot, self.pulls[slot as usize].serial));
            }
            self.pulls[slot as usize].stage = Stage::Over;
        }
        self.unclaim(env, claim);
    }

    fn unclaim(&mut self, env: &mut Env, claim: ClaimId) {
        if let Some(engine) = &mut self.engine {
            engine.unclaim(env.moment(), claim);
        }
        self.tell_notes(env);
    }

    /// A pulled delivery is resolved; its loop may be over, and another one in its slot.
    pub(crate) fn pulled(&mut self, slot: u8, serial: u32) {
        if let Some(pull) = self.pulls.get_mut(slot as usize)
            && pull.stage == Stage::Runs
            && pull.serial == serial
        {
            pull.stage = Stage::Asks;
        }
    }

    fn loop_of(&mut self, claim: ClaimId) -> Option<&mut Pull> {
        self.pulls.iter_mut().find(|pull| pull.stage != Stage::Over && pull.claim == claim)
    }

    pub(crate) fn wake(&mut self, claim: ClaimId) {
        if let Some(pull) = self.loop_of(claim)
            && pull.stage == Stage::Waits
        {
            pull.stage = Stage::Asks;
        }
    }

    pub(crate) fn claim_lost(&mut self, claim: ClaimId) {
        if let Some(pull) = self.loop_of(claim) {
            pull.stage = Stage::Over;
        }
    }

    pub(crate) fn flushed(&mut self, env: &mut Env, claim: ClaimId) {
        if let Some(pull) = self.loop_of(claim)
            && pull.stage == Stage::Flushes
        {
            pull.stage = Stage::Over;
            self.unclaim(env, claim);
        }
    }

    /// A loop that waited for long enough gives its session back.
    pub(crate) fn patience(&mut self, env: &mut Env, slot: u8, serial: u32) {
        let Some(pull) = self.pulls.get_mut(slot as usize).filter(|pull| pull.serial == serial) else { return };
        if self.frozen && matches!(pull.stage, Stage::Waits | Stage::Flushes) {
            return env.queue.push(self.thaws_at + 1, Ev::Patience(self.index, slot, serial));
        }
        match pull.stage {
            Stage::Waits => self.let_go(env, slot),
            Stage::Flushes => {
                pull.stage = Stage::Over;
                let claim = pull.claim;
                self.unclaim(env, claim);
            }
            _ => return,
        }
        self.step(env);
    }
}
