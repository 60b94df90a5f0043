//! The names of sessions, made once: an id is two bytes, the second of which is its number.

use convoy_core::SessionId;
use convoy_core::backend::Place;

/// The most sessions of a schedule.
pub(crate) const SESSIONS: usize = 16;

/// Marks the key of a message without a session.
pub(crate) const LONE: u64 = 1 << 32;

const NAMES: [[u8; 2]; SESSIONS] = {
    let mut names = [[b's', 0]; SESSIONS];
    let mut at = 0;
    while at < SESSIONS {
        names[at][1] = at as u8;
        at += 1;
    }
    names
};

static NAMED: [[u8; 2]; SESSIONS] = NAMES;

/// Ids and places, by number.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) ids: Vec<SessionId>,
    pub(crate) sessions: Vec<Place>,
    pub(crate) lanes: Vec<Place>,
}

impl Names {
    pub(crate) fn new() -> Self {
        let ids: Vec<SessionId> =
            NAMED.iter().filter_map(|name| SessionId::new(bytes::Bytes::from_static(name)).ok()).collect();
        let sessions = ids.iter().cloned().map(Place::Session).collect();
        Self { ids, sessions, lanes: (0..SESSIONS as u32).map(Place::Lane).collect() }
    }
}

/// What the checker calls a session.
pub(crate) fn session_key(id: &SessionId) -> u64 {
    let bytes = id.as_bytes();
    if id.is_lone() {
        let position = bytes.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        return LONE | position;
    }
    u64::from(bytes.get(1).copied().unwrap_or(0))
}
