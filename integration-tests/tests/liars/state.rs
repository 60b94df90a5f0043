//! The same for session state: two pull loops, of which the first loses its session to the second.

use std::sync::Arc;
use std::time::Duration;

use convoy_conformance::history::{Answer, GrantId, Memory, Recorder, What};
use convoy_conformance::liars::{Liar, Lie};
use convoy_conformance::watch::{self, WatchedConsumer};
use convoy_core::backend::Place;
use convoy_core::engine::Note;
use convoy_core::{Broker, Consumer, Observed, Observer, Outcome, Sentinel, Session, SessionId};
use convoy_memory::MemoryBroker;

use crate::stage::{self, CHANNEL, GROUP, Judged, Play, judge, now};

const SOON: Duration = Duration::from_secs(10);

/// A consumer, and the number of its newest grant.
struct Loop {
    number: u32,
    consumer: Consumer,
    grant: Arc<std::sync::atomic::AtomicU64>,
}

struct Newest(WatchedConsumer<Memory>, Arc<std::sync::atomic::AtomicU64>);

impl Observer for Newest {
    fn on(&self, event: &Observed<'_>) {
        if let Note::Granted { grant, .. } = event.note {
            self.1.store(grant.epoch(), std::sync::atomic::Ordering::Relaxed);
        }
        self.0.on(event);
    }
}

impl Loop {
    async fn open(broker: &Broker, recorder: &Arc<Memory>, sentinel: &Sentinel, number: u32) -> Self {
        let grant = Arc::default();
        let observer = Newest(WatchedConsumer::new(Arc::clone(recorder), 1, number), Arc::clone(&grant));
        let consumer = broker.consumer(CHANNEL).group(GROUP).observer(observer).observer(sentinel.clone());
        let consumer = consumer.open().await.expect("a consumer");
        Self { number, consumer, grant }
    }

    fn grant(&self) -> GrantId {
        GrantId { consumer: self.number, n: self.grant.load(std::sync::atomic::Ordering::Relaxed) }
    }

    /// Writes `version` as the state; whether it was taken.
    async fn write(&self, recorder: &Memory, session: &Session, version: u64) -> bool {
        let (key, grant) = (watch::key(session.id()), self.grant());
        recorder.record(now(), 1, What::StateReq { session: key, grant, version });
        let written = session.set_state(Some(version.to_string().into())).await;
        let answer = match &written {
            Ok(()) => Answer::Ok,
            Err(error) if error.outcome() == Outcome::NotApplied => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        recorder.record(now(), 1, What::State { session: key, grant, version, answer });
        written.is_ok()
    }

    async fn read(&self, recorder: &Memory, session: &Session) -> u64 {
        let state = session.state().await.expect("a state").expect("some state");
        let version = std::str::from_utf8(&state).expect("text").parse().expect("a number");
        recorder.record(now(), 1, What::StateRead { session: watch::key(session.id()), grant: self.grant(), version });
        version
    }
}

pub async fn perform(lie: Option<Lie>) -> Judged {
    let memory = MemoryBroker::new();
    let broker = Broker::new(Liar::new(memory.clone(), lie));
    let recorder = Arc::new(Memory::new(1));
    let sentinel = stage::sentinel();
    let old = Loop::open(&broker, &recorder, &sentinel, 1).await;
    let new = Loop::open(&broker, &recorder, &sentinel, 2).await;
    stage::send(&broker, &recorder, &Play { messages: 1, ..Play::ALONE }).await;

    let held = old.consumer.accept_next(SOON).await.expect("accepted").expect("a session");
    assert!(old.write(&recorder, &held, 1).await);
    recorder.record(now(), 1, stage::taken_away());
    let place = Place::Session(SessionId::new("anna").expect("an id"));
    assert!(memory.faults().group(CHANNEL, GROUP).expect("the group").hand_to_another(&place));
    let mut taken = new.consumer.accept_next(SOON).await.expect("accepted").expect("the session");
    assert!(new.write(&recorder, &taken, 2).await);

    let lies = lie.is_some();
    assert_eq!(old.write(&recorder, &held, 3).await, lies, "a write under a right that is gone");
    let read = new.read(&recorder, &taken).await;
    assert_eq!(read, if lies { 3 } else { 2 }, "what the new holder finds");
    taken.next::<String>(SOON).await.expect("held").expect("a message").complete().await.expect("settled");
    taken.release(SOON).await.expect("released");
    drop(held);
    old.consumer.close(SOON).await.expect("closed");
    new.consumer.close(SOON).await.expect("closed");
    judge(&recorder, &sentinel)
}
