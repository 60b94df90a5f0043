//! Faults as they strike: each picks its victim when its time has come.

use convoy_core::Defect as Envelope;
use convoy_core::{Content, Headers, MessageId};
use std::sync::Arc;

use super::env::tell;
use super::faults::Kind;
use super::log::Entry;
use super::names::LONE;
use super::plan::{MS, Personality, SEC};
use super::queue::Ev;
use super::sender::PRODUCERS;
use super::wire::{Down, Up};
use super::world::World;
use crate::history::{Answer, Message, What};

impl World {
    /// A fault of the plan strikes, if there is somebody to strike.
    pub(crate) fn strike(&mut self, at: u16) {
        let Some((_, kind)) = self.env.plan.faults.get(at as usize).copied() else { return };
        if self.env.calm {
            return;
        }
        let struck = match kind {
            Kind::Move | Kind::GiveBack | Kind::Detach => self.strike_right(kind),
            Kind::BrokerFreeze | Kind::BrokerRestart => self.strike_broker(kind),
            Kind::ProducerCrash => {
                let sender = self.env.rng.index(self.senders.len());
                self.senders[sender].crash(&mut self.env);
                true
            }
            Kind::Join => self.one_more(),
            _ => self.strike_process(kind),
        };
        if struck {
            self.env.disturbed(kind);
        }
    }

    fn victim(&mut self) -> Option<usize> {
        let from = self.env.rng.index(self.processes.len());
        let count = self.processes.len();
        (from..count).chain(0..from).find(|p| self.processes[*p].is_up() && !self.processes[*p].frozen)
    }

    fn strike_process(&mut self, kind: Kind) -> bool {
        let Some(victim) = self.victim() else { return false };
        let env = &mut self.env;
        let process = &mut self.processes[victim];
        let lock = env.plan.lock;
        match kind {
            Kind::Crash | Kind::CrashSilent => {
                let conn = process.conn;
                process.crash(env, kind == Kind::CrashSilent);
                if let Some(conn) = conn {
                    self.watch_silence(conn);
                }
                let pause = self.env.rng.range(50 * MS, 3 * SEC);
                self.env.after(pause, Ev::Boot(victim as u8));
                true
            }
            Kind::Freeze | Kind::FreezeLong => {
                let (low, high) = if kind == Kind::Freeze { (MS, lock / 2) } else { (lock, 2 * lock) };
                let time = env.rng.range(low, high);
                process.freeze(env, time);
                if let Some(conn) = process.conn {
                    self.watch_silence(conn);
                }
                true
            }
            Kind::Drain => {
                let within = env.rng.range(100 * MS, lock);
                process.drain(env, within);
                true
            }
            Kind::Pause => {
                let time = env.rng.range(100 * MS, lock);
                env.after(time, Ev::Unpause(process.index, process.incarnation));
                process.pause(env, true);
                true
            }
            _ => match process.conn {
                Some(conn) => {
                    self.cut(conn, kind);
                    true
                }
                None => false,
            },
        }
    }

    /// What is done to a connection, and who sees it when.
    fn cut(&mut self, conn: u16, kind: Kind) {
        let env = &mut self.env;
        let lock = env.plan.lock;
        let (soon, soon_too) = (env.rng.below(20 * MS), env.rng.below(20 * MS));
        let notice = env.rng.range(lock / 2, 2 * lock);
        let at = conn as usize;
        let (now, c) = (env.now, &mut env.conns[at]);
        match kind {
            Kind::Slow => {
                c.slow = env.rng.range(50 * MS, 500 * MS);
                let time = env.rng.range(500 * MS, lock);
                return env.after(time, Ev::Quick(conn));
            }
            Kind::CutBoth => {
                c.up.queue.clear();
                c.down.queue.clear();
            }
            Kind::CutClient => c.down.queue.clear(),
            Kind::CutBroker => c.up.queue.clear(),
            _ => {}
        }
        let up = matches!(kind, Kind::CutBoth | Kind::CutBroker);
        let down = matches!(kind, Kind::CutBoth | Kind::CutClient);
        if up && let Some(at) = c.up.send(now, soon, Up::Closed) {
            env.queue.push(at, Ev::Up(conn));
        }
        let c = &mut env.conns[at];
        if down && let Some(at) = c.down.send(now, soon_too, Down::Closed) {
            env.queue.push(at, Ev::Down(conn));
        }
        let c = &mut env.conns[at];
        c.up.dead |= kind != Kind::HalfDown;
        c.down.dead |= kind != Kind::HalfUp;
        env.after(notice, Ev::Notice(conn));
        self.watch_silence(conn);
    }

    /// The broker may hear nothing of this connection from now on; heartbeats were heard until lately.
    fn watch_silence(&mut self, conn: u16) {
        let env = &mut self.env;
        let lately = env.rng.below(env.plan.lock / 2);
        let c = &mut env.conns[conn as usize];
        c.heard = c.heard.max(env.now.saturating_sub(lately));
        let wait = env.rng.range(env.plan.lock, 2 * env.plan.lock);
        env.after(wait, Ev::Silent(conn));
    }

    fn strike_right(&mut self, kind: Kind) -> bool {
        let env = &mut self.env;
        let told = |token: &u32| {
            let right = &env.rights[*token as usize];
            right.active && right.told
        };
        let held: Vec<u32> =
            self.broker.spots.iter().map(|spot| spot.holder).filter(|t| *t != u32::MAX).filter(told).collect();
        if held.is_empty() || self.broker.frozen {
            return false;
        }
        let token = env.rng.pick(&held);
        let holder = env.rights[token as usize].process;
        let personality = env.plan.personality;
        if kind == Kind::Detach || personality.locks_sessions() {
            self.broker.detach(env, token);
            return true;
        }
        if personality == Personality::Queue {
            self.processes[holder as usize].give_away(env, token);
            return true;
        }
        let other = (holder + 1 + env.rng.below(self.processes.len() as u64 - 1) as u8) % self.processes.len() as u8;
        let target = if kind == Kind::GiveBack { holder } else { other };
        self.broker.revoke(env, token, target);
        true
    }

    fn strike_broker(&mut self, kind: Kind) -> bool {
        if self.broker.frozen || self.broker.down {
            return false;
        }
        let env = &mut self.env;
        let lock = env.plan.lock;
        if kind == Kind::BrokerFreeze {
            self.broker.frozen = true;
            let time = env.rng.range(100 * MS, 2 * lock);
            env.after(time, Ev::BrokerUp);
        } else {
            self.broker.restart(env);
            self.broker.down = true;
            let time = env.rng.range(50 * MS, SEC);
            env.after(time, Ev::BrokerUp);
        }
        true
    }

    /// A consumer that was not there before.
    fn one_more(&mut self) -> bool {
        match self.processes.iter_mut().find(|p| p.incarnation == 0) {
            Some(process) => {
                process.boot(&mut self.env);
                true
            }
            None => false,
        }
    }

    /// Somebody sends a message with a broken envelope.
    pub(crate) fn foreign(&mut self, number: u64) {
        let env = &mut self.env;
        env.saw(Kind::Malformed);
        let lanes = !env.plan.personality.locks_sessions();
        let defect = if lanes {
            env.rng.pick(&[Envelope::NoSession, Envelope::Headers, Envelope::Misrouted, Envelope::SessionTooLong])
        } else {
            Envelope::Headers
        };
        let session = env.rng.below(u64::from(env.plan.sessions)) as u8;
        let place = session % env.plan.places;
        let producer = PRODUCERS;
        let id = (u128::from(producer) << 64) | u128::from(number);
        let body = bytes::Bytes::from_static(b"foreign");
        let content = Arc::new(Content::received(MessageId::from_u128(id), body, Headers::default()));
        let message = Message { producer, pseq: number };
        let entry = Entry {
            session,
            place,
            message,
            content,
            defect: Some(defect),
            poison: false,
            settled: false,
            delivered: 0,
        };
        let position = env.log.entries.len() as u64 + 1;
        let key = entry.key(position);
        let now = env.now;
        env.judge.push_outside(now, producer, What::SendReq { session: key, message, prev: 0, hash: number });
        self.broker.append(env, entry);
        let position = Some(crate::history::Position { generation: 0, value: position });
        env.judge.push_outside(now, producer, What::Send { session: key, message, outcome: Answer::Ok, position });
        tell!(env, "foreign message {number} ({})", key & !LONE);
    }
}
