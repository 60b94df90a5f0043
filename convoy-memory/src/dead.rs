//! The dead-letter store of a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use convoy_core::backend::{DeadLetter, DeadLetterStore, Origin, Reason};
use convoy_core::{Inbound, Result, SessionId};

use crate::state::{Channel, Map};

/// What was set aside, in the order it came; a message once, however often it was set aside.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    by_place: BTreeMap<u64, DeadLetter>,
    by_origin: Map<(SessionId, u64), u64>,
    last: u64,
}

impl DeadLetters {
    /// Adds a copy unless there is one of this origin; `false` when the store is full.
    pub(crate) fn add(&mut self, message: &Inbound, reason: &Reason, most: usize, since: SystemTime) -> bool {
        let origin = (message.session.clone(), message.position.value);
        if self.by_origin.contains_key(&origin) {
            return true;
        }
        if self.by_place.len() >= most {
            return false;
        }
        self.last += 1;
        self.by_place
            .insert(self.last, DeadLetter::new(self.last, Origin::Position(message.position), message, reason, since));
        self.by_origin.insert(origin, self.last);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.by_place.len()
    }

    fn list(&self, from: u64, most: usize) -> Vec<DeadLetter> {
        self.by_place.range(from..).take(most).map(|(_, letter)| letter.clone()).collect()
    }

    fn remove(&mut self, at: u64) -> bool {
        let Some(letter) = self.by_place.remove(&at) else { return false };
        if let Origin::Position(position) = letter.origin {
            self.by_origin.remove(&(letter.session, position.value));
        }
        true
    }
}

/// Access to the store of one group.
#[derive(Debug)]
pub(crate) struct MemoryDeadLetters {
    pub(crate) channel: Arc<Channel>,
    pub(crate) group: u32,
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>> {
        self.channel.gate.pass("list dead letters", self.channel.answer_limit()).await?;
        Ok(self.channel.with(|state, _| state.groups[self.group as usize].dead.list(from, most)))
    }

    async fn remove(&self, at: u64) -> Result<bool> {
        self.channel.gate.pass("remove dead letter", self.channel.answer_limit()).await?;
        Ok(self.channel.with(|state, _| state.groups[self.group as usize].dead.remove(at)))
    }
}
