//! A history, told step by step. Each step takes a millisecond; a consumer is its own process.

use convoy_conformance::checker::{Checker, Fatal, Options, Verdict};
use convoy_conformance::history::{
    Answer, Cause, Ended, Event, Fault, GrantId, Message, Phase, Place, Position, Reason, SettleKind, Side, Store, What,
};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;
/// How long the lock of a grant is, and its renewals.
pub const LOCK: u64 = 10 * SECOND;
pub const GROUP: u32 = 7;
/// The session that most stories are about.
pub const S: u64 = 1;

pub const A: GrantId = GrantId { consumer: 1, n: 1 };
pub const B: GrantId = GrantId { consumer: 2, n: 1 };
pub const C: GrantId = GrantId { consumer: 3, n: 1 };

pub struct Story {
    pub options: Options,
    pub events: Vec<Event>,
    pub now: u64,
    pub session: u64,
    pub group: u32,
    producer: u32,
    positions: bool,
    blocking: bool,
}

/// A message of the first producer.
pub fn m(pseq: u64) -> Message {
    Message { producer: 1, pseq }
}

/// A message of another producer.
pub fn of(producer: u32, pseq: u64) -> Message {
    Message { producer, pseq }
}

impl Story {
    pub fn new(options: Options) -> Self {
        let positions = options.order == convoy_conformance::checker::Order::Total;
        let mut story = Self {
            options,
            events: Vec::new(),
            now: SECOND,
            session: S,
            group: GROUP,
            producer: 1,
            positions,
            blocking: false,
        };
        story.options.grace = SECOND;
        story.tell(0, What::GroupStart);
        story
    }

    pub fn tell(&mut self, process: u32, what: What) {
        self.now += MS;
        let number = self.events.len() as u64;
        self.events.push(Event { time: self.now, process, number, group: self.group, what });
    }

    pub fn wait(&mut self, time: u64) {
        self.now += time;
    }

    pub fn at(&self, message: Message) -> Option<Position> {
        self.positions.then_some(Position { generation: 1, value: message.pseq * 10 + u64::from(message.producer) })
    }

    pub fn judge(&self) -> Verdict {
        let mut checker = Checker::new(self.options.clone());
        self.events.iter().for_each(|event| checker.push(event));
        checker.finish()
    }

    // What producers do.

    pub fn request(&mut self, message: Message) {
        let what = What::SendReq { session: self.session, message, prev: 0, hash: message.pseq };
        self.tell(100 + self.producer, what);
    }

    pub fn sent(&mut self, message: Message, outcome: Answer) {
        let position = self.at(message).filter(|_| outcome == Answer::Ok);
        self.sent_at(message, outcome, position);
    }

    pub fn sent_at(&mut self, message: Message, outcome: Answer, position: Option<Position>) {
        let what = What::Send { session: self.session, message, outcome, position };
        self.tell(100 + self.producer, what);
    }

    pub fn send(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.request(message);
            self.sent(message, Answer::Ok);
        }
    }

    pub fn resume(&mut self, producer: u32) {
        self.tell(100 + producer, What::Resume { session: self.session, producer });
    }

    // What brokers and consumers do.

    pub fn grant(&mut self, grant: GrantId) {
        let sent_at = self.now;
        self.tell(grant.consumer, What::Grant { place: Place::Lane(0), grant, sent_at, lock: LOCK });
    }

    pub fn renew(&mut self, grant: GrantId) {
        let sent_at = self.now;
        self.tell(grant.consumer, What::Renewed { grant, sent_at });
    }

    pub fn lose(&mut self, grant: GrantId, cause: Cause) {
        self.tell(grant.consumer, What::Lost { grant, cause });
    }

    pub fn deliver(&mut self, grant: GrantId, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let position = self.at(message);
            self.deliver_at(grant, message, position);
        }
    }

    pub fn deliver_at(&mut self, grant: GrantId, message: Message, position: Option<Position>) {
        let (session, hash) = (self.session, message.pseq);
        self.tell(grant.consumer, What::Deliver { session, message, grant, hash, position, malformed: false });
    }

    pub fn malformed(&mut self, grant: GrantId, message: Message) {
        let (session, hash, position) = (self.session, message.pseq, self.at(message));
        self.tell(grant.consumer, What::Deliver { session, message, grant, hash, position, malformed: true });
    }

    pub fn start(&mut self, grant: GrantId, message: Message) {
        let position = self.at(message);
        self.start_at(grant, message, position, self.now);
    }

    pub fn start_at(&mut self, grant: GrantId, message: Message, position: Option<Position>, checked_at: u64) {
        let (session, blocking, deadline) = (self.session, self.blocking, u64::MAX);
        let what = What::Start { session, message, grant, attempt: 1, checked_at, deadline, position, blocking };
        self.tell(grant.consumer, what);
    }

    pub fn start_blocking(&mut self, grant: GrantId, message: Message) {
        self.blocking = true;
        self.start(grant, message);
        self.blocking = false;
    }

    pub fn end(&mut self, grant: GrantId, message: Message, how: Ended) {
        self.tell(grant.consumer, What::End { session: self.session, message, grant, how });
    }

    pub fn run(&mut self, grant: GrantId, message: Message) {
        self.start(grant, message);
        self.end(grant, message, Ended::Ok);
    }

    pub fn fail(&mut self, grant: GrantId, message: Message) {
        self.start(grant, message);
        self.end(grant, message, Ended::Error);
    }

    pub fn ask(&mut self, grant: GrantId, message: Message, kind: SettleKind) {
        self.tell(grant.consumer, What::SettleReq { session: self.session, message, grant, kind });
    }

    pub fn answer(&mut self, grant: GrantId, message: Message, answer: Answer) {
        self.tell(grant.consumer, What::Settle { session: self.session, message, grant, answer });
    }

    pub fn settle(&mut self, grant: GrantId, message: Message) {
        self.ask(grant, message, SettleKind::Complete);
        self.answer(grant, message, Answer::Ok);
    }

    /// Delivered, run and settled, one after the other.
    pub fn handle(&mut self, grant: GrantId, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.deliver(grant, [message]);
            self.run(grant, message);
            self.settle(grant, message);
        }
    }

    pub fn copied(&mut self, grant: GrantId, message: Message) {
        let (session, store, answer) = (self.session, Store::Dead, Answer::Ok);
        self.tell(grant.consumer, What::Copied { session, message, grant, store, answer });
    }

    /// Set aside as it should be.
    pub fn bury(&mut self, grant: GrantId, message: Message, reason: Reason) {
        self.ask(grant, message, SettleKind::Dead(reason));
        self.copied(grant, message);
        self.answer(grant, message, Answer::Ok);
    }

    pub fn stored(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.tell(0, What::Stored { session: self.session, message, store: Store::Dead });
        }
    }

    pub fn effect(&mut self, message: Message, accepted: bool) {
        let (session, position) = (self.session, self.at(message));
        self.tell(0, What::Effect { session, message, position, accepted });
    }

    pub fn write(&mut self, grant: GrantId, version: u64, answer: Answer) {
        self.tell(grant.consumer, What::StateReq { session: self.session, grant, version });
        self.tell(grant.consumer, What::State { session: self.session, grant, version, answer });
    }

    pub fn read(&mut self, grant: GrantId, version: u64) {
        self.tell(grant.consumer, What::StateRead { session: self.session, grant, version });
    }

    // What the harness does.

    pub fn kill(&mut self, process: u32) {
        self.tell(0, What::KillSent { target: process });
        self.tell(0, What::Reaped { target: process });
    }

    pub fn fault(&mut self, fault: Fault, side: Side, phase: Phase, target: u32) {
        self.tell(0, What::Fault { fault, side, phase, target });
    }
}

/// The history makes this name fire, and only this.
pub fn lie(options: Options, fatal: Fatal, tell: impl FnOnce(&mut Story)) {
    let mut story = Story::new(options);
    tell(&mut story);
    let verdict = story.judge();
    let named: Vec<_> = Fatal::ALL.iter().filter(|name| verdict.fatal(**name) > 0).collect();
    assert_eq!(named, [&fatal], "{verdict}");
    assert!(verdict.findings().iter().all(|finding| !finding.why.is_empty()));
}

/// Nothing fires.
pub fn truth(options: Options, tell: impl FnOnce(&mut Story)) -> Verdict {
    let mut story = Story::new(options);
    tell(&mut story);
    let verdict = story.judge();
    assert!(verdict.is_ok(), "{verdict}");
    assert!(verdict.is_live(), "{verdict}");
    verdict
}

/// Correct histories, each a test: `name, options: |story| { … } => |verdict| what else holds;`
macro_rules! truths {
    ($($name:ident, $options:ident: |$h:ident| $tell:block $(=> |$v:ident| $check:expr)?;)+) => {
        $(
            #[test]
            fn $name() {
                let _verdict = truth(Options::$options(), |$h: &mut Story| $tell);
                $(
                    let $v = &_verdict;
                    assert!($check, "{}", $v);
                )?
            }
        )+
    };
}

pub(crate) use truths;
