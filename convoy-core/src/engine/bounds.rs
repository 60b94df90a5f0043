//! How much is buffered: of a session, of a place, in all. What meets a bound stops being read; nothing is dropped.

use super::input::Note;
use super::{Bug, Engine};
use crate::backend::Command;
use crate::session::SessionId;

impl Engine {
    pub(super) fn count_in(&mut self, gi: usize, si: usize, size: usize) {
        self.messages += 1;
        self.bytes += size;
        let g = &mut self.grants[gi];
        g.messages += 1;
        g.bytes += size;
        let s = &mut self.sessions[si];
        s.len += 1;
        s.bytes += size;
        if !s.full && self.config.bounds.session.is_met(s.len, s.bytes) {
            s.full = true;
            g.full_sessions += 1;
        }
    }

    pub(super) fn count_out(&mut self, gi: usize, si: usize, size: usize) {
        let less = |count: &mut usize, by: usize| *count = count.saturating_sub(by);
        less(&mut self.messages, 1);
        less(&mut self.bytes, size);
        let g = &mut self.grants[gi];
        less(&mut g.messages, 1);
        less(&mut g.bytes, size);
        let s = &mut self.sessions[si];
        less(&mut s.len, 1);
        less(&mut s.bytes, size);
        if s.full && self.config.bounds.session.has_room(s.len, s.bytes) {
            s.full = false;
            less(&mut g.full_sessions, 1);
        }
        self.bound_total();
    }

    /// Stops reading a place that meets a bound, or goes on with one that has room again.
    pub(super) fn bound_reading(&mut self, gi: usize) {
        let bounds = &self.config.bounds;
        if !self.full && bounds.total.is_met(self.messages, self.bytes) {
            self.full = true;
            return self.read_all(false);
        }
        let g = &self.grants[gi];
        if g.reading {
            if self.full || g.full_sessions > 0 || bounds.lane.is_met(g.messages, g.bytes) {
                self.read(gi, false);
            }
        } else if self.may_read(gi) && !self.bug(Bug::ReadingStaysOff) {
            self.read(gi, true);
        }
    }

    /// Whether a place that is not read has room again.
    fn may_read(&self, gi: usize) -> bool {
        let g = &self.grants[gi];
        !self.full && g.full_sessions == 0 && self.config.bounds.lane.has_room(g.messages, g.bytes)
    }

    /// Goes on reading when the whole has room again.
    pub(super) fn bound_total(&mut self) {
        if self.full && self.config.bounds.total.has_room(self.messages, self.bytes) {
            self.full = false;
            self.read_all(true);
        }
    }

    fn read_all(&mut self, on: bool) {
        for at in 0..self.grants.capacity() {
            if self.grants.get(at).is_some_and(|g| g.reading != on)
                && (!on || (self.may_read(at) && !self.bug(Bug::ReadingStaysOff)))
            {
                self.read(at, on);
            }
        }
    }

    fn read(&mut self, gi: usize, on: bool) {
        let g = &mut self.grants[gi];
        g.reading = on;
        self.commands.push(Command::Read { grant: g.grant, on });
        if !on {
            self.wake_blocked(gi);
        }
        self.note(|e| {
            let g = &e.grants[gi];
            let hottest = if on { None } else { e.hottest(gi) };
            Note::Reading { grant: g.grant, place: g.place.clone(), on, hottest }
        });
    }

    /// The session with the most messages of a place.
    fn hottest(&self, gi: usize) -> Option<SessionId> {
        let sessions = self.grants[gi].ring.iter().filter_map(|e| e.open()).map(|si| &self.sessions[si]);
        sessions.max_by_key(|s| s.len).map(|s| s.id.clone())
    }
}
