//! What a test may want to look at.

use convoy_core::SessionId;

use crate::backend::MemoryBroker;
use crate::state::{Log, NONE};

/// What a channel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Messages that some group has not settled.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sessions that are remembered because they have messages, a lock or somebody who waits for them. Lanes remember none.
    pub sessions: usize,
    /// Consumers that are there.
    pub consumers: usize,
    /// The groups, in the order they were made.
    pub groups: Vec<GroupStats>,
}

/// What a group of a channel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The name.
    pub name: String,
    /// Messages that it has not settled.
    pub unsettled: u64,
    /// Sessions or lanes that somebody holds.
    pub locks: usize,
    /// Sessions that have messages and no holder.
    pub free_sessions: usize,
    /// Requests for a session by name that wait.
    pub waiting_by_name: usize,
    /// Sessions that keep a state.
    pub states: usize,
    /// Messages in the dead-letter store.
    pub dead_letters: usize,
    /// Settlements that came under a right that was gone, and were not applied.
    pub stale_settlements: u64,
}

impl MemoryBroker {
    /// What a channel holds; `None` when it does not exist.
    #[must_use]
    pub fn stats(&self, channel: &str) -> Option<ChannelStats> {
        let channel = self.shared().find(channel)?;
        Some(channel.with(|state, now| {
            state.advance(now);
            let sessions = match &state.log {
                Log::Sessions(log) => log.len(),
                Log::Lanes(_) => 0,
            };
            let groups = state.groups.iter().map(|group| GroupStats {
                name: group.name.clone(),
                unsettled: group.unsettled,
                locks: group.held_lanes() + group.sessions.iter().filter(|s| s.lock != NONE).count(),
                free_sessions: group.free_sessions(),
                waiting_by_name: group.waiting_by_name(),
                states: group.states.len(),
                dead_letters: group.dead.len(),
                stale_settlements: group.stale_settlements,
            });
            ChannelStats {
                messages: state.messages,
                bytes: state.bytes,
                sessions,
                consumers: state.consumers.len(),
                groups: groups.collect(),
            }
        }))
    }

    /// The state that a session keeps in a group.
    #[must_use]
    pub fn session_state(&self, channel: &str, group: &str, session: &SessionId) -> Option<bytes::Bytes> {
        let channel = self.shared().find(channel)?;
        channel.with(|state, _| {
            let group = state.group(group)?;
            state.groups[group as usize].states.get(session).cloned()
        })
    }
}

impl ChannelStats {
    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&GroupStats> {
        self.groups.iter().find(|group| group.name == name)
    }
}
