//! Queues with a single active consumer (RabbitMQ): the first one registered has the lane, and learns it with the first message.

use super::Broker;
use crate::sim::env::{Env, NONE};
use crate::sim::plan::Personality;

impl Broker {
    pub(super) fn subscribe(&mut self, env: &mut Env, conn: u16, lane: u8) {
        let subscribers = &mut self.spots[lane as usize].subscribers;
        if !subscribers.contains(&conn) && !env.conns[conn as usize].left {
            subscribers.push(conn);
        }
        self.activate(env, lane as usize);
    }

    pub(super) fn activate_all(&mut self, env: &mut Env) {
        for place in 0..self.spots.len() {
            self.activate(env, place);
        }
    }

    pub(super) fn activate(&mut self, env: &mut Env, place: usize) {
        let spot = &self.spots[place];
        if env.plan.personality != Personality::Queue || spot.holder != NONE {
            return;
        }
        if let Some(conn) = spot.subscribers.first().copied() {
            let token = self.grant(env, place, conn, false);
            self.pump(env, token);
        }
    }
}
