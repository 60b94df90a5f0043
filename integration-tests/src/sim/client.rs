//! The client of a process's broker: turns what passes over the link into events, and commands into requests. It filters nothing that the
//! engine is to tell apart itself, and merges what a group's earlier holders had done into what is committed.

use std::sync::Arc;

use convoy_core::backend::{Answer, Command, Event, Grant, LeaseCell, Loss, Place, Recovered, Ticket};
use convoy_core::{Error, ErrorKind, Moment, Position};

use super::env::{Env, tell};
use super::plan::{MS, Personality};
use super::process::Process;
use super::queue::Ev;
use super::wire::{Down, Up};
use crate::history::{GrantId, Reason, What};

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Settle(u32, Ticket),
    Aside(u32, u64),
}

fn token(grant: Grant) -> u32 {
    (grant.epoch() - 1) as u32
}

impl Process {
    /// Everything of this connection that has arrived.
    pub(crate) fn arrivals(&mut self, env: &mut Env, conn: u16) {
        if self.frozen || self.conn != Some(conn) {
            return;
        }
        let mut any = false;
        while let Some(what) = env.conns[conn as usize].down.arrived(env.now) {
            any = true;
            self.down(env, what);
            if self.conn != Some(conn) {
                break;
            }
        }
        if any {
            self.step(env);
        }
    }

    fn down(&mut self, env: &mut Env, what: Down) {
        match what {
            Down::Closed => return self.disconnected(env),
            Down::Kicked => return self.kicked(env),
            Down::Granted(token) => return self.granted(env, token),
            Down::Denied(session) => {
                let session = env.names.ids[session as usize].clone();
                let event = Event::Denied { session, error: Error::new(ErrorKind::Timeout, "accept") };
                return self.feed_event(env, event);
            }
            Down::Deliver(token, ..)
            | Down::Passed(token, _)
            | Down::Proved(token, ..)
            | Down::Settled(token, ..)
            | Down::SetAside(token, ..)
            | Down::Revoke(token, _)
            | Down::Lost(token, _) => {
                if !env.rights[token as usize].live {
                    // Of a right that is over here: a slow link of its own may bring it still, or never.
                    if !matches!(what, Down::Lost(..)) && env.rng.permille(env.plan.leaks) {
                        env.stash.push((self.index, self.incarnation, what));
                        let late = env.rng.below(env.plan.lock / 2);
                        env.after(late, Ev::Stashed(env.stash.len() as u32 - 1));
                    }
                    return;
                }
            }
        }
        self.event(env, what);
    }

    /// What was put by for this process comes.
    pub(crate) fn stashed(&mut self, env: &mut Env, what: Down) {
        self.event(env, what);
        self.step(env);
    }

    fn event(&mut self, env: &mut Env, what: Down) {
        match what {
            Down::Deliver(token, at, next) => {
                let right = &mut env.rights[token as usize];
                right.next = next;
                let grant = right.grant;
                let message = super::broker::inbound(env, at);
                self.feed_event(env, Event::Delivered { grant, message });
            }
            Down::Passed(token, below) => {
                let grant = env.rights[token as usize].grant;
                self.feed_event(env, Event::Passed { grant, below });
            }
            Down::Proved(token, asked_at, valid_for) => self.proved(env, token, asked_at, valid_for),
            Down::Settled(token, ticket, answer) => {
                self.asked.retain(|asked| !matches!(asked, Asked::Settle(_, of) if *of == ticket));
                let grant = env.rights[token as usize].grant;
                if answer == Answer::Refused {
                    env.rights[token as usize].live = false;
                    self.live.retain(|of| *of != token);
                    self.come_back(env, token);
                }
                self.feed_event(env, Event::Settled { grant, ticket, answer });
            }
            Down::SetAside(token, position, answer) => {
                self.asked.retain(|asked| !matches!(asked, Asked::Aside(by, of) if (*by, *of) == (token, position)));
                let grant = env.rights[token as usize].grant;
                self.feed_event(env, Event::SetAside { grant, position, answer });
            }
            Down::Revoke(token, until) => {
                let right = &mut env.rights[token as usize];
                right.until = right.until.min(until);
                let grant = right.grant;
                self.feed_event(env, Event::Revoking { grant, until: Moment::from_nanos(until) });
            }
            Down::Lost(token, why) => {
                self.over(env, token);
                self.come_back(env, token);
                let grant = env.rights[token as usize].grant;
                self.feed_event(env, Event::Lost { grant, why });
            }
            _ => {}
        }
    }

    fn granted(&mut self, env: &mut Env, token: u32) {
        let cell = Arc::new(LeaseCell::default());
        let right = &mut env.rights[token as usize];
        right.live = true;
        right.granted_at = env.now;
        right.cell = Some(Arc::clone(&cell));
        let (grant, start) = (right.grant, Position::new(right.start));
        let place = if env.plan.personality.locks_sessions() {
            self.asks = self.asks.saturating_sub(1);
            env.names.sessions[right.place as usize].clone()
        } else {
            env.names.lanes[right.place as usize].clone()
        };
        self.live.push(token);
        let recovered = Recovered::default();
        self.feed_event(env, Event::Granted { grant, place, start, recovered, lease: cell });
        if env.rng.permille(100) {
            // The answer to a request of before, as to the accept itself: true, and no evidence for this right.
            let asked_at = Moment::from_nanos(env.now - 1 - env.rng.below(env.plan.lock / 2));
            let valid_for = std::time::Duration::from_nanos(env.plan.lock);
            self.feed_event(env, Event::Proved { grant, asked_at, valid_for });
        }
    }

    fn proved(&mut self, env: &mut Env, token: u32, asked_at: u64, valid_for: u64) {
        let right = &mut env.rights[token as usize];
        right.asked_at = right.asked_at.max(asked_at);
        let grant = right.grant;
        if asked_at >= right.granted_at {
            let resumes = right.cell.as_ref().is_none_or(|cell| !cell.holds(Moment::from_nanos(env.now)));
            right.proved = true;
            // The checker knows one length: a shorter one is told as an earlier request.
            let sent_at = (asked_at + valid_for).saturating_sub(env.plan.lock);
            let grant = GrantId { consumer: self.incarnation, n: grant.epoch() };
            env.judge.push(env.now, self.incarnation, What::Renewed { grant, sent_at });
            if resumes {
                self.turns.clear();
            }
        }
        let valid_for = std::time::Duration::from_nanos(valid_for);
        self.feed_event(env, Event::Proved { grant, asked_at: Moment::from_nanos(asked_at), valid_for });
    }

    /// The client sees a right end: its lease ends at once, before anything is said.
    fn over(&mut self, env: &mut Env, token: u32) {
        let right = &mut env.rights[token as usize];
        right.live = false;
        if let Some(cell) = &right.cell {
            cell.end();
        }
        self.live.retain(|of| *of != token);
    }

    /// On a queue, registers again behind the others.
    fn come_back(&mut self, env: &mut Env, token: u32) {
        if env.plan.personality == Personality::Queue && !self.left {
            let lane = env.rights[token as usize].place;
            let wait = env.rng.below(400 * MS);
            env.after(wait, Ev::Subscribe(self.index, self.incarnation, lane));
        }
    }

    /// The connection is gone, and the client knows.
    pub(crate) fn disconnected(&mut self, env: &mut Env) {
        let Some(conn) = self.conn.take() else { return };
        env.conns[conn as usize].client_open = false;
        tell!(env, "p{} sees c{conn} gone", self.incarnation);
        self.asks = 0;
        self.wants.clear();
        if env.plan.personality == Personality::Group {
            // A member outlives its connection; what is out without an answer has none.
            for asked in std::mem::take(&mut self.asked) {
                self.unanswered(env, asked);
            }
        } else {
            let mut live = std::mem::take(&mut self.live);
            for token in live.drain(..) {
                self.over(env, token);
                let late = env.rng.below(2 * MS);
                env.after(late, Ev::Lost(token));
            }
            self.asked.clear();
        }
        let wait = env.rng.range(50 * MS, 800 * MS);
        env.after(wait, Ev::Connect(self.index, self.incarnation));
    }

    fn unanswered(&mut self, env: &mut Env, asked: Asked) {
        let (token, what) = match asked {
            Asked::Settle(token, ticket) => (token, Down::Settled(token, ticket, Answer::Unknown)),
            Asked::Aside(token, position) => (token, Down::SetAside(token, position, Answer::Unknown)),
        };
        if env.rights[token as usize].live {
            self.event(env, what);
        }
    }

    /// Not a member any more: everything is lost, and it joins again.
    fn kicked(&mut self, env: &mut Env) {
        let tokens = std::mem::take(&mut self.live);
        for token in tokens {
            self.over(env, token);
            let grant = env.rights[token as usize].grant;
            self.feed_event(env, Event::Lost { grant, why: Loss::Revoked });
        }
        self.asked.clear();
        self.member = false;
        if let Some(conn) = self.conn
            && !self.left
        {
            self.member = true;
            env.send_up(conn, Up::Join);
        }
    }

    /// Connects, and takes part.
    pub(crate) fn connect(&mut self, env: &mut Env, broker_down: bool) {
        if !self.is_up() || self.conn.is_some() {
            return;
        }
        if broker_down || self.frozen {
            return env.after(200 * MS, Ev::Connect(self.index, self.incarnation));
        }
        let conn = env.connect(self.index, self.incarnation);
        self.conn = Some(conn);
        tell!(env, "p{} connects as c{conn}", self.incarnation);
        if self.left {
            env.conns[conn as usize].left = true;
        }
        if env.plan.personality == Personality::Queue && !self.left {
            for lane in 0..env.plan.places {
                env.send_up(conn, Up::Subscribe(lane));
            }
        } else if env.plan.personality == Personality::Group {
            self.go_on(env, conn);
        } else if !env.plan.personality.locks_sessions() && !self.left {
            env.send_up(conn, Up::Join);
        }
        self.step(env);
    }

    /// On a new connection: what was given back meanwhile is given back now, and what is held is read on.
    fn go_on(&mut self, env: &mut Env, conn: u16) {
        if std::mem::replace(&mut self.member, true) {
            env.send_up(conn, Up::Back);
        } else if !self.left {
            env.send_up(conn, Up::Join);
        }
        if self.left {
            env.send_up(conn, Up::Leave);
        }
        for token in 0..env.rights.len() as u32 {
            let right = &env.rights[token as usize];
            if right.incarnation != self.incarnation || right.granted_at == 0 || !right.active {
                continue;
            }
            if right.live {
                let (next, wanted) = (right.next, right.wanted);
                env.send_up(conn, Up::Read(token, wanted));
                env.send_up(conn, Up::Fetch(token, next));
            } else {
                env.send_up(conn, Up::Release(token));
            }
        }
    }

    /// Carries out what the engine asks for.
    pub(crate) fn command(&mut self, env: &mut Env, command: Command) {
        tell!(env, "p{} engine wants {command:?}", self.incarnation);
        let held = match &command {
            Command::Settle { grant, .. }
            | Command::SetAside { grant, .. }
            | Command::Renew { grant }
            | Command::Read { grant, .. }
            | Command::Release { grant }
            | Command::Surrender { grant } => env.rights[token(*grant) as usize].live,
            _ => true,
        };
        if !held {
            return;
        }
        if let Command::Read { grant, on } = &command {
            env.rights[token(*grant) as usize].wanted = *on;
        }
        let Some(conn) = self.conn else { return self.offline(env, command) };
        let group = env.plan.personality == Personality::Group;
        match command {
            Command::Settle { grant, ticket, progress } => {
                if group {
                    self.asked.push(Asked::Settle(token(grant), ticket));
                }
                env.send_up(conn, Up::Settle(token(grant), ticket, progress));
            }
            Command::SetAside { grant, message, reason } => {
                let position = message.position.value;
                let reason = if reason.code == "handler" { Reason::Explicit } else { Reason::Exhausted };
                if group {
                    self.asked.push(Asked::Aside(token(grant), position));
                }
                env.send_up(conn, Up::SetAside(token(grant), position, reason));
            }
            Command::Renew { grant } => env.send_up(conn, Up::Renew(token(grant), env.now)),
            Command::Read { grant, on } => env.send_up(conn, Up::Read(token(grant), on)),
            Command::Leave => {
                self.left = true;
                env.send_up(conn, Up::Leave);
            }
            Command::Release { grant } => {
                self.over(env, token(grant));
                env.send_up(conn, Up::Release(token(grant)));
                self.come_back(env, token(grant));
            }
            Command::Surrender { grant } => {
                self.over(env, token(grant));
                env.send_up(conn, Up::Surrender(token(grant)));
                self.come_back(env, token(grant));
            }
            _ => {}
        }
    }

    /// Without a connection: what cannot be sent did not happen.
    fn offline(&mut self, env: &mut Env, command: Command) {
        let verdict = match command {
            Command::Settle { grant, ticket, .. } => Down::Settled(token(grant), ticket, Answer::NotApplied),
            Command::SetAside { grant, message, .. } => {
                Down::SetAside(token(grant), message.position.value, Answer::NotApplied)
            }
            Command::Release { grant } | Command::Surrender { grant } => return self.over(env, token(grant)),
            Command::Leave => {
                self.left = true;
                return;
            }
            _ => return,
        };
        env.stash.push((self.index, self.incarnation, verdict));
        env.after(MS, Ev::Stashed(env.stash.len() as u32 - 1));
    }

    /// A lane is to move to another member: on a queue the members agree on it by themselves.
    pub(crate) fn give_away(&mut self, env: &mut Env, token: u32) {
        let until = env.now + env.plan.handover;
        if env.rights[token as usize].live {
            self.event(env, Down::Revoke(token, until));
            self.step(env);
        }
    }

    /// Whether this place is one that the engine knows by name.
    pub(crate) fn place_of(env: &Env, session: u8) -> Place {
        if env.plan.personality.locks_sessions() {
            env.names.sessions[session as usize].clone()
        } else {
            env.names.lanes[(session % env.plan.places) as usize].clone()
        }
    }
}
