//! Sinks and session state: `fence-violation`, `state-stale`.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Checker;
use super::names::Fatal;
use super::options::Order;
use super::report::{Of, tell};
use crate::history::{Answer, Event, GrantId, Message, Position};

#[derive(Debug, Default)]
pub(super) struct Effects {
    /// What a fenced sink took last: of a session, or where the broker gives no position, of a
    /// session and producer.
    taken: HashMap<(u32, u32), Position, RandomState>,
    states: HashMap<u32, State, RandomState>,
}

/// What is known of the state of a session.
#[derive(Debug, Default)]
struct State {
    /// The newest grant that read or wrote it, and what it then was.
    serial: u32,
    version: u64,
    /// Writes that are out or of unknown outcome: version and grant.
    maybe: Vec<(u64, u32)>,
    /// Writes asked for after a newer grant had read or written.
    stale: Vec<u64>,
}

impl Effects {
    pub(super) fn clear(&mut self) {
        self.taken.clear();
        self.states.clear();
    }
}

impl Checker {
    /// A sink that keeps the last position takes a later one, and only a later one.
    pub(super) fn effect(
        &mut self,
        event: &Event,
        session: u64,
        message: Message,
        position: Option<Position>,
        accepted: bool,
    ) {
        let at = self.convoys.at(event.group, session);
        let (producer, position) = match (self.options.order, position) {
            (Order::Total, Some(position)) => (u32::MAX, position),
            _ => (message.producer, Position { generation: 0, value: message.pseq }),
        };
        let last = self.effects.taken.get(&(at, producer)).copied();
        let later = last.is_none_or(|last| position > last);
        if accepted {
            let furthest = last.map_or(position, |last| last.max(position));
            self.effects.taken.insert((at, producer), furthest);
        }
        if accepted != later {
            let why = if accepted { "was taken behind a later one, or twice" } else { "was refused in its turn" };
            let of = Of::sent(session, message);
            self.fatal(event, Fatal::FenceViolation, of, format!("the effect of {} {why}", tell(message)));
        }
    }

    pub(super) fn state_req(&mut self, event: &Event, session: u64, id: GrantId, version: u64) {
        let (serial, state) = self.state_of(event, session, id);
        if serial < state.serial {
            state.stale.push(version);
        } else {
            state.maybe.push((version, serial));
        }
    }

    pub(super) fn state(&mut self, event: &Event, session: u64, id: GrantId, version: u64, answer: Answer) {
        let (serial, state) = self.state_of(event, session, id);
        let stale = state.stale.iter().position(|other| *other == version);
        let maybe = state.maybe.iter().position(|(other, _)| *other == version);
        let mut wrong = false;
        match (answer, stale, maybe) {
            (Answer::Unknown, ..) => {}
            (_, Some(at), _) => {
                state.stale.swap_remove(at);
                wrong = answer == Answer::Ok;
            }
            (Answer::Ok, _, Some(at)) => {
                // What was asked for before it is now overwritten, or void.
                state.maybe.drain(..=at);
                (state.version, state.serial) = (version, serial.max(state.serial));
            }
            (_, _, Some(at)) => drop(state.maybe.remove(at)),
            _ => {}
        }
        if wrong {
            let why = format!("state {version} of an older grant was taken after a newer one's");
            self.fatal(event, Fatal::StateStale, Of { session, message: None, grant: Some(id) }, why);
        }
    }

    pub(super) fn state_read(&mut self, event: &Event, session: u64, id: GrantId, version: u64) {
        let (serial, state) = self.state_of(event, session, id);
        if serial < state.serial {
            return; // what a zombie reads binds nobody
        }
        let maybe = state.maybe.iter().position(|(other, _)| *other == version);
        let expected = state.version;
        if let Some(at) = maybe {
            state.maybe.drain(..=at);
        }
        // From now on an older grant's write is refused or void.
        state.maybe.retain(|(_, of)| *of >= serial);
        (state.version, state.serial) = (version, serial);
        if version != expected && maybe.is_none() {
            let why = format!("state {version} was read where {expected} was written last");
            self.fatal(event, Fatal::StateStale, Of { session, message: None, grant: Some(id) }, why);
        }
    }

    fn state_of(&mut self, event: &Event, session: u64, id: GrantId) -> (u32, &mut State) {
        let at = self.convoys.at(event.group, session);
        let (_, serial) = self.grants.find(event.group, id);
        (serial, self.effects.states.entry(at).or_default())
    }
}
