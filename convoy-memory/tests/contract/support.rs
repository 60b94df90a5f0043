//! A consumer and a producer that speak the contract directly.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use convoy_core::backend::{
    Above, Answer, Backend, Command, ConsumerSpec, Event, Grant, LeaseCell, Loss, Place, Progress, Reason, Run, Sent,
    Sink, Source, Ticket,
};
use convoy_core::runtime::now;
use convoy_core::{Content, Inbound, IntoSessionId, Moment, Redelivered, Result, SessionId};
use convoy_memory::{GroupStats, MemoryBroker};
use tokio::time::timeout;

pub(crate) const CHANNEL: &str = "orders";
pub(crate) const GROUP: &str = "billing";
/// Longer than anything takes; under paused time it passes in no time.
const PATIENCE: Duration = Duration::from_secs(3600);

static TICKETS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn ticket() -> Ticket {
    Ticket(TICKETS.fetch_add(1, Ordering::Relaxed) + 1)
}

pub(crate) fn id(name: &str) -> SessionId {
    name.into_session_id().unwrap()
}

pub(crate) fn broker(options: &str) -> MemoryBroker {
    MemoryBroker::from_url(&format!("memory://?{options}")).unwrap()
}

pub(crate) fn group(broker: &MemoryBroker) -> GroupStats {
    broker.stats(CHANNEL).unwrap().group(GROUP).unwrap().clone()
}

pub(crate) fn text(message: &Inbound) -> String {
    String::from_utf8(message.content.body().to_vec()).unwrap()
}

pub(crate) fn count(message: &Inbound) -> u32 {
    match message.redelivered {
        Redelivered::Count(count) => count,
        other => panic!("no count: {other:?}"),
    }
}

/// A right, as its holder knows it.
#[derive(Clone, Debug)]
pub(crate) struct Won {
    pub(crate) grant: Grant,
    pub(crate) place: Place,
    pub(crate) start: u64,
    pub(crate) unclean: bool,
    pub(crate) lease: Arc<LeaseCell>,
}

pub(crate) struct Producer {
    pub(crate) sink: Arc<dyn Sink>,
    known: VecDeque<Sent>,
}

impl Producer {
    pub(crate) async fn open(broker: &MemoryBroker) -> Self {
        Self { sink: broker.producer(CHANNEL).await.unwrap(), known: VecDeque::new() }
    }

    pub(crate) fn submit(&self, session: &str, bodies: &[&str]) -> Ticket {
        self.submit_until(session, bodies, Moment::NEVER)
    }

    pub(crate) fn submit_until(&self, session: &str, bodies: &[&str], until: Moment) -> Ticket {
        let ticket = ticket();
        let messages = bodies.iter().map(|body| Arc::new(Content::new(body.as_bytes().to_vec()))).collect();
        self.sink.submit(&mut vec![Run { ticket, session: id(session), messages, until }]);
        ticket
    }

    pub(crate) async fn outcome(&mut self, ticket: Ticket) -> Result<Option<u64>> {
        loop {
            if let Some(at) = self.known.iter().position(|sent| sent.ticket == ticket) {
                return self.known.remove(at).unwrap().outcome.map(|p| p.map(|p| p.value));
            }
            let mut sent = Vec::new();
            timeout(PATIENCE, self.sink.next(&mut sent)).await.expect("no outcome").unwrap();
            self.known.extend(sent);
        }
    }

    pub(crate) async fn send(&mut self, session: &str, bodies: &[&str]) -> u64 {
        let ticket = self.submit(session, bodies);
        self.outcome(ticket).await.unwrap().unwrap()
    }
}

pub(crate) struct Consumer {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) seen: VecDeque<Event>,
}

impl Consumer {
    pub(crate) async fn open(broker: &MemoryBroker) -> Self {
        Self::of_group(broker, GROUP).await
    }

    pub(crate) async fn of_group(broker: &MemoryBroker, group: &str) -> Self {
        let source = broker.consumer(&ConsumerSpec::new(CHANNEL, group)).await.unwrap();
        Self { source, seen: VecDeque::new() }
    }

    pub(crate) fn tell(&self, command: Command) {
        self.source.submit(&mut vec![command]);
    }

    pub(crate) fn accept(&self, wanted: u32) {
        self.tell(Command::Accept { wanted });
    }

    pub(crate) fn accept_named(&self, session: &str, wait: Duration) {
        self.tell(Command::AcceptNamed { session: id(session), until: now() + wait });
    }

    pub(crate) fn settle(&self, grant: Grant, watermark: u64, above: &[u64]) -> Ticket {
        let ticket = ticket();
        let end = above.iter().copied().chain([watermark]).max().unwrap().saturating_add(1);
        let above = if above.is_empty() { Above::Nothing } else { Above::Done(above.to_vec()) };
        self.tell(Command::Settle { grant, ticket, progress: Progress { watermark, end, above } });
        ticket
    }

    /// Settles and waits for the answer.
    pub(crate) async fn settled(&mut self, grant: Grant, watermark: u64, above: &[u64]) -> Answer {
        let ticket = self.settle(grant, watermark, above);
        self.answer(ticket).await
    }

    pub(crate) async fn answer(&mut self, ticket: Ticket) -> Answer {
        self.find(|event| match event {
            Event::Settled { ticket: t, answer, .. } if *t == ticket => Some(*answer),
            _ => None,
        })
        .await
    }

    pub(crate) async fn set_aside(&mut self, grant: Grant, message: &Inbound) -> Answer {
        let reason = Reason::new("handler", "does not fit", 3);
        self.tell(Command::SetAside { grant, message: message.clone(), reason });
        let wanted = message.position.value;
        self.find(|event| match event {
            Event::SetAside { position, answer, .. } if *position == wanted => Some(*answer),
            _ => None,
        })
        .await
    }

    pub(crate) async fn won(&mut self) -> Won {
        self.find(|event| match event {
            Event::Granted { grant, place, start, recovered, lease } => Some(Won {
                grant: *grant,
                place: place.clone(),
                start: start.value,
                unclean: recovered.unclean,
                lease: Arc::clone(lease),
            }),
            _ => None,
        })
        .await
    }

    /// The next message of a grant.
    pub(crate) async fn message(&mut self, grant: Grant) -> Inbound {
        self.find(|event| match event {
            Event::Delivered { grant: g, message } if *g == grant => Some(message.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn messages(&mut self, grant: Grant, n: usize) -> Vec<Inbound> {
        let mut messages = Vec::new();
        for _ in 0..n {
            messages.push(self.message(grant).await);
        }
        messages
    }

    pub(crate) async fn lost(&mut self, grant: Grant) -> Loss {
        self.find(|event| match event {
            Event::Lost { grant: g, why } if *g == grant => Some(*why),
            _ => None,
        })
        .await
    }

    pub(crate) async fn denied(&mut self) -> convoy_core::ErrorKind {
        self.find(|event| match event {
            Event::Denied { error, .. } => Some(error.kind()),
            _ => None,
        })
        .await
    }

    /// The first event that `pick` takes, taken out; the others stay in order.
    pub(crate) async fn find<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            if let Some((at, found)) = self.seen.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?))) {
                self.seen.remove(at);
                return found;
            }
            let mut events = Vec::new();
            let next = timeout(PATIENCE, self.source.next(&mut events)).await;
            next.unwrap_or_else(|_| panic!("nothing more comes; seen: {:?}", self.seen)).unwrap();
            self.seen.extend(events);
        }
    }

    /// Whether nothing new comes for so long.
    pub(crate) async fn is_quiet(&mut self, wait: Duration) -> bool {
        let mut events = Vec::new();
        let quiet = timeout(wait, self.source.next(&mut events)).await.is_err();
        self.seen.extend(events);
        quiet && self.seen.is_empty()
    }
}
