//! A broker that locks sessions and is asked for them (Service Bus; memory with sessions).

use super::Broker;
use crate::sim::env::{Env, NONE};
use crate::sim::queue::Ev;
use crate::sim::wire::Down;

impl Broker {
    /// Answers open requests with free sessions that have messages, the longest waiting in turn.
    pub(super) fn serve(&mut self, env: &mut Env) {
        self.serve_named(env);
        let spots = self.spots.len();
        for step in 0..spots {
            let place = (self.turn + step) % spots;
            let spot = &self.spots[place];
            if spot.holder != NONE || spot.head as usize >= spot.entries.len() {
                continue;
            }
            let Some(conn) = self.asker(env) else { return };
            env.conns[conn as usize].asks -= 1;
            self.turn = place + 1;
            self.lock(env, place, conn);
        }
    }

    fn lock(&mut self, env: &mut Env, place: usize, conn: u16) {
        let token = self.grant(env, place, conn, true);
        env.after(env.plan.lock, Ev::Right(token));
        self.pump(env, token);
    }

    /// One of those that ask.
    fn asker(&self, env: &mut Env) -> Option<u16> {
        let from = env.rng.index(env.conns_used);
        let asks = |conn: &usize| {
            let c = &env.conns[*conn];
            c.asks > 0 && c.broker_open && !c.left
        };
        (from..env.conns_used).chain(0..from).find(asks).map(|conn| conn as u16)
    }

    /// Named requests, which also get a session without messages.
    fn serve_named(&mut self, env: &mut Env) {
        let mut at = 0;
        while let Some((place, conn, until)) = self.named.get(at).copied() {
            let c = &env.conns[conn as usize];
            if !c.broker_open || c.left {
                self.named.remove(at);
            } else if self.spots[place as usize].holder == NONE {
                self.named.remove(at);
                self.lock(env, place as usize, conn);
            } else if env.now >= until {
                self.named.remove(at);
                env.send_down(conn, Down::Denied(place));
            } else {
                at += 1;
            }
        }
    }

    /// Named requests that are out of time are denied.
    pub(crate) fn deny(&mut self, env: &mut Env) {
        if !self.named.is_empty() {
            self.serve(env);
        }
    }
}
