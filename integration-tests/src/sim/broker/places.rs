//! What a broker knows of a place and of a member.

use std::sync::Arc;

use convoy_core::backend::{Above, Progress};

use crate::sim::env::Env;
use crate::sim::names::session_key;
use crate::sim::plan::Personality;

/// What a group committed of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) watermark: u64,
    pub(crate) end: u64,
    pub(crate) open: Vec<(u64, u64)>,
}

impl Committed {
    /// Whether this message is done.
    pub(crate) fn covers(&self, key: u64, position: u64) -> bool {
        let open = || self.open.iter().any(|(of, from)| *of == key && *from <= position);
        position < self.watermark || (position < self.end && !open())
    }

    /// What is done in all: what this holder did, and what it read that others had done behind it. A commit replaces the one before, so a
    /// client that sent its own progress alone would take back what it has not come to yet.
    pub(crate) fn merged(&self, progress: &Progress) -> Self {
        let mut open: Vec<(u64, u64)> = match &progress.above {
            Above::Open(open) => open.iter().map(|(id, from)| (session_key(id), *from)).collect(),
            _ => Vec::new(),
        };
        if progress.end < self.end {
            for (key, from) in &self.open {
                if !open.iter().any(|(of, _)| of == key) {
                    open.push((*key, (*from).max(progress.end)));
                }
            }
        }
        Self { watermark: progress.watermark, end: progress.end.max(self.end), open }
    }
}

/// A session or a lane.
#[derive(Debug, Default)]
pub(crate) struct Spot {
    pub(crate) entries: Vec<u32>,
    /// The first entry that is not settled.
    pub(crate) head: u32,
    pub(crate) holder: u32,
    pub(crate) committed: Committed,
    /// Who is registered, the first one first.
    pub(crate) subscribers: Vec<u16>,
    /// Who is to get it next.
    pub(crate) target: Option<u8>,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Member {
    pub(crate) incarnation: u32,
    pub(crate) conn: u16,
    pub(crate) joined: bool,
    pub(crate) leaving: bool,
    pub(crate) expires: u64,
    pub(crate) watched: bool,
}

/// What a handler gets of an entry.
pub(crate) fn inbound(env: &Env, at: u32) -> convoy_core::Inbound {
    use convoy_core::Redelivered;
    let entry = &env.log.entries[at as usize];
    let redelivered = match (entry.delivered, env.plan.personality) {
        (_, Personality::Group) => Redelivered::No,
        (0 | 1, Personality::Queue) => Redelivered::No,
        (_, Personality::Queue) => Redelivered::Maybe,
        (count, _) => Redelivered::Count(u32::from(count)),
    };
    convoy_core::Inbound {
        position: convoy_core::Position::new(u64::from(at) + 1),
        session: env.names.ids[entry.session as usize].clone(),
        redelivered,
        defect: entry.defect,
        content: Arc::clone(&entry.content),
    }
}
