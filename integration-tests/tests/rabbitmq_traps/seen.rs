//! What a consumer's observer saw, in order.

use std::sync::Arc;

use convoy_core::backend::{Answer, Loss};
use convoy_core::engine::Note;
use convoy_core::{Moment, Observed, Observer};
use parking_lot::Mutex;

/// One thing that was seen. Messages are named by their bodies, rights by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Granted(u64),
    Lost(u64, Loss, Moment),
    Delivered(u64, String),
    Started(u64, String, Moment),
    Settled(u64, u64, Answer),
}

/// The log of one consumer.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Entry>>>);

impl Observer for Seen {
    fn on(&self, event: &Observed<'_>) {
        let said = |content: &convoy_core::Content| String::from_utf8_lossy(content.body()).into_owned();
        let entry = match event.note {
            Note::Granted { grant, .. } => Entry::Granted(grant.epoch()),
            Note::Lost { grant, why, .. } => Entry::Lost(grant.epoch(), *why, event.at),
            Note::Delivered { grant, content, .. } => Entry::Delivered(grant.epoch(), said(content)),
            Note::Started { grant, content, checked_at, .. } => {
                Entry::Started(grant.epoch(), said(content), *checked_at)
            }
            Note::Settled { grant, position, answer, .. } => Entry::Settled(grant.epoch(), position.value, *answer),
            _ => return,
        };
        self.0.lock().push(entry);
    }
}

impl Seen {
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.lock().clone()
    }

    fn pick<T>(&self, of: impl Fn(&Entry) -> Option<T>) -> Vec<T> {
        self.0.lock().iter().filter_map(of).collect()
    }

    /// Everything that was delivered, under whichever right.
    pub(crate) fn delivered(&self) -> Vec<String> {
        self.pick(|entry| match entry {
            Entry::Delivered(_, body) => Some(body.clone()),
            _ => None,
        })
    }

    pub(crate) fn started(&self) -> Vec<String> {
        self.pick(|entry| match entry {
            Entry::Started(_, body, _) => Some(body.clone()),
            _ => None,
        })
    }

    /// The rights that were won, in order.
    pub(crate) fn granted(&self) -> Vec<u64> {
        self.pick(|entry| match entry {
            Entry::Granted(epoch) => Some(*epoch),
            _ => None,
        })
    }

    /// The rights that were lost otherwise than by giving them back, in order.
    pub(crate) fn lost(&self) -> Vec<(u64, Loss, Moment)> {
        self.pick(|entry| match entry {
            Entry::Lost(_, Loss::Released, _) => None,
            Entry::Lost(epoch, why, at) => Some((*epoch, *why, *at)),
            _ => None,
        })
    }

    /// How many messages the broker is known to have settled.
    pub(crate) fn settled(&self) -> usize {
        self.pick(|entry| matches!(entry, Entry::Settled(_, _, Answer::Ok)).then_some(())).len()
    }
}
