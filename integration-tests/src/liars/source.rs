//! A consumer's side that lies about what the broker does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use convoy_core::backend::{Above, Answer, Command, Event, Grant, Limits, Place, SessionState, Source};
use convoy_core::{Content, Defect, Inbound, Moment, Result, SessionId};
use tokio::sync::Notify;

use super::{Lie, lock};

/// What all sources of a backend know.
#[derive(Debug, Default)]
pub(super) struct First {
    /// The first grant, which most lies are about; and whose it is.
    grant: Mutex<Option<(usize, Grant)>>,
    /// State taken under a right that was gone.
    state: Mutex<Option<Option<Bytes>>>,
}

#[derive(Debug)]
pub(super) struct LyingSource {
    inner: Arc<dyn Source>,
    lie: Lie,
    first: Arc<First>,
    told: Mutex<Told>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// Whether a lie that is told once was.
    done: bool,
    /// How much was delivered under a grant.
    delivered: HashMap<Grant, u32>,
    /// The end of the first grant, which is not told yet.
    lost: Option<Event>,
    /// Events that are made up.
    events: Vec<Event>,
}

impl LyingSource {
    pub(super) fn new(inner: Arc<dyn Source>, lie: Lie, first: Arc<First>) -> Self {
        Self { inner, lie, first, told: Mutex::default(), notify: Notify::new() }
    }

    /// Whether this is the first grant of the backend.
    fn is_first(&self, grant: Grant) -> bool {
        let me = std::ptr::from_ref(self) as usize;
        *lock(&self.first.grant).get_or_insert((me, grant)) == (me, grant)
    }

    fn tell(&self, told: &mut Told, event: Event, into: &mut Vec<Event>) {
        match event {
            Event::Granted { grant, place, start, recovered, lease } => {
                self.is_first(grant);
                // Whoever is told nothing must not see it in the lease either.
                let lease = if self.lie == Lie::TwoHolders { Arc::default() } else { lease };
                into.push(Event::Granted { grant, place, start, recovered, lease });
            }
            Event::Delivered { grant, message } => self.deliver(told, grant, message, into),
            Event::Proved { grant, asked_at, valid_for } if self.lie == Lie::OverstatesLock && self.is_first(grant) => {
                into.push(Event::Proved { grant, asked_at, valid_for: valid_for * 1000 });
            }
            Event::Proved { grant, .. } if self.lie == Lie::TwoHolders && !told.done && self.is_first(grant) => {
                told.done = true;
                into.push(event);
                self.inner.submit(&mut vec![Command::Surrender { grant }]);
            }
            Event::Lost { grant, .. }
                if matches!(self.lie, Lie::TakesStaleSettlement | Lie::TakesStaleState) && self.is_first(grant) =>
            {
                told.lost = Some(event);
            }
            _ => into.push(event),
        }
    }

    fn deliver(&self, told: &mut Told, grant: Grant, mut message: Inbound, into: &mut Vec<Event>) {
        let count = told.delivered.entry(grant).or_default();
        *count += 1;
        let second = *count == 2 && !told.done;
        let lies = second
            && match self.lie {
                Lie::FlipsAByte | Lie::DeliversElsewhere | Lie::CallsMalformed => true,
                Lie::HoldsBack => self.is_first(grant),
                Lie::SkipsHandedOut => !self.is_first(grant),
                _ => false,
            };
        told.done |= lies;
        match self.lie {
            Lie::FlipsAByte if lies => message.content = Arc::new(flipped(&message.content)),
            Lie::DeliversElsewhere if lies => {
                if let Ok(elsewhere) = SessionId::new("elsewhere") {
                    message.session = elsewhere;
                }
            }
            Lie::CallsMalformed if lies => message.defect = Some(Defect::Headers),
            Lie::HoldsBack | Lie::SkipsHandedOut if lies => return,
            _ => {}
        }
        into.push(Event::Delivered { grant, message });
    }

    /// What the broker is asked instead of this; whether something is made up.
    fn ask(&self, told: &mut Told, command: Command, into: &mut Vec<Command>) -> bool {
        match command {
            Command::Settle { grant, ticket, mut progress } if self.is_first(grant) => match self.lie {
                Lie::ForgetsSettlements => {
                    (progress.watermark, progress.above) = (0, Above::Nothing);
                    into.push(Command::Settle { grant, ticket, progress });
                }
                Lie::IgnoresSettlements => {}
                Lie::TakesStaleSettlement if told.lost.is_some() => {
                    told.events.push(Event::Settled { grant, ticket, answer: Answer::Ok });
                    told.events.extend(told.lost.take());
                    return true;
                }
                _ => into.push(Command::Settle { grant, ticket, progress }),
            },
            command => into.push(command),
        }
        false
    }
}

/// The first two messages change their contents.
fn swap_first_two(events: &mut [Event]) {
    let mut contents = events.iter_mut().filter_map(|event| match event {
        Event::Delivered { message, .. } => Some(&mut message.content),
        _ => None,
    });
    if let (Some(first), Some(second)) = (contents.next(), contents.next()) {
        std::mem::swap(first, second);
    }
}

/// The same message with another first byte.
fn flipped(content: &Content) -> Content {
    let mut body = content.body().to_vec();
    if let Some(byte) = body.first_mut() {
        *byte ^= 1;
    }
    let mut flipped = Content::received(content.id(), body.into(), content.headers().clone());
    flipped.set_meta(content.type_name(), content.content_type(), content.stamp(), content.sent_at());
    flipped
}

#[async_trait]
impl Source for LyingSource {
    fn limits(&self) -> Limits {
        let mut limits = self.inner.limits();
        if matches!(self.lie, Lie::IgnoresSettlements | Lie::OverstatesLock) {
            // Otherwise the engine would start nothing more after the first few.
            limits.settle_count = u32::MAX;
        }
        limits
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        loop {
            let mut events = Vec::new();
            let result = tokio::select! {
                biased;
                () = self.notify.notified() => Ok(()),
                result = self.inner.next(&mut events) => result,
            };
            let mut told = lock(&self.told);
            into.append(&mut told.events);
            if self.lie == Lie::SwapsNeighbours {
                swap_first_two(&mut events);
            }
            for event in events {
                self.tell(&mut told, event, into);
            }
            if result.is_err() || !into.is_empty() {
                return result;
            }
        }
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        let mut told = lock(&self.told);
        let mut asked = Vec::with_capacity(commands.len());
        let mut made_up = false;
        for command in commands.drain(..) {
            made_up |= self.ask(&mut told, command, &mut asked);
        }
        drop(told);
        self.inner.submit(&mut asked);
        if made_up {
            self.notify.notify_one();
        }
    }

    fn place(&self, session: &SessionId) -> Place {
        self.inner.place(session)
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn session_state(&self) -> Option<&dyn SessionState> {
        self.inner.session_state().map(|_| self as &dyn SessionState)
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.inner.close(until).await
    }
}

#[async_trait]
impl SessionState for LyingSource {
    async fn state(&self, grant: Grant, session: &SessionId) -> Result<Option<Bytes>> {
        if let Some(taken) = lock(&self.first.state).clone() {
            return Ok(taken);
        }
        match self.inner.session_state() {
            Some(inner) => inner.state(grant, session).await,
            None => Ok(None),
        }
    }

    async fn set_state(&self, grant: Grant, session: &SessionId, state: Option<Bytes>) -> Result<()> {
        let stale = lock(&self.told).lost.is_some() && self.is_first(grant);
        if stale {
            *lock(&self.first.state) = Some(state);
            return Ok(());
        }
        match self.inner.session_state() {
            Some(inner) => inner.set_state(grant, session, state).await,
            None => Ok(()),
        }
    }
}
