//! Random commands and faults; whatever happens, the rules of the contract hold, and in the end everything is settled and nothing remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use convoy_core::backend::{
    Above, Answer, Backend, Command, ConsumerSpec, Event, Fate, Grant, Place, Progress, Reason, Run, Sink, Source,
    Ticket,
};
use convoy_core::runtime::now;
use convoy_core::{Content, Inbound, Moment, SessionId};
use convoy_memory::{AnswerFault, Faults, GroupFaults, Landing, MemoryBroker, SendFault};
use tokio::time::{advance, timeout};

use crate::support::{CHANNEL, broker, id, ticket};

const GROUPS: [&str; 2] = ["one", "two"];
const SESSIONS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A small generator of its own, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 33) as usize) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What is known of a session in a group: everything up to `certain` is settled, and up to `maybe` it may be.
#[derive(Default, Clone, Copy)]
struct Known {
    certain: u64,
    maybe: u64,
}

#[derive(Default)]
struct Right {
    /// Whether it was given back here: answers may still cross that, messages may not.
    over: bool,
    /// Whether what was in hand when it was given back is read.
    heard_over: bool,
    /// What was delivered and not settled yet here, in order, with the number in its session.
    out: Vec<(Inbound, u64)>,
    done: BTreeSet<u64>,
    told: BTreeSet<u64>,
    last: u64,
    /// The number that has to come next of a session, once it is known.
    next: BTreeMap<SessionId, u64>,
    /// One settlement at a time, as the contract says: its ticket, and up to where it settles each session.
    asked: Option<(Ticket, Vec<(SessionId, u64)>)>,
}

struct Client {
    source: Arc<dyn Source>,
    group: usize,
    rights: BTreeMap<Grant, Right>,
    highest: Option<Grant>,
}

impl Client {
    fn held(&self) -> Vec<Grant> {
        self.rights.iter().filter(|(_, right)| !right.over).map(|(grant, _)| *grant).collect()
    }

    fn give_up(&mut self, grant: Grant) {
        if let Some(right) = self.rights.get_mut(&grant) {
            right.over = true;
        }
    }
}

struct World {
    seed: u64,
    dice: Dice,
    lanes: bool,
    broker: MemoryBroker,
    clients: Vec<Client>,
    sink: Arc<dyn Sink>,
    /// How many of a session have landed: the next one that lands has the next number.
    sent: BTreeMap<&'static str, u64>,
    known: BTreeMap<(usize, SessionId), Known>,
    dead: BTreeSet<(usize, SessionId, u64)>,
}

#[tokio::test(start_paused = true)]
async fn sessions_keep_the_rules_whatever_happens() {
    for seed in 0..1_000 {
        World::open(seed, "lock=30s&answer_limit=3s&prefetch=5").await.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lanes_keep_the_rules_whatever_happens() {
    for seed in 0..1_000 {
        World::open(seed, "lanes=3&lock=30s&answer_limit=3s&handover=4s&prefetch=8").await.run().await;
    }
}

impl World {
    async fn open(seed: u64, options: &str) -> Self {
        let broker = broker(options);
        for group in GROUPS {
            broker.faults().group(CHANNEL, group).unwrap();
        }
        let sink = broker.producer(CHANNEL).await.unwrap();
        let (dice, lanes) = (Dice(seed.wrapping_mul(0x9e37_79b9) + 1), options.contains("lanes"));
        let (clients, sent, known, dead) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { seed, dice, lanes, broker, clients, sink, sent, known, dead }
    }

    async fn run(mut self) {
        for group in [0, 0, 1] {
            self.join(group).await;
        }
        for _ in 0..300 {
            self.step().await;
        }
        self.heal().await;
    }

    fn faults(&self) -> Faults {
        self.broker.faults()
    }

    fn group_faults(&mut self) -> GroupFaults {
        let group = self.dice.of(&GROUPS);
        self.faults().group(CHANNEL, group).unwrap()
    }

    async fn join(&mut self, group: usize) {
        // A frozen broker opens nothing.
        let Ok(source) = self.broker.consumer(&ConsumerSpec::new(CHANNEL, GROUPS[group])).await else { return };
        self.clients.push(Client { source, group, rights: BTreeMap::new(), highest: None });
    }

    async fn step(&mut self) {
        match self.dice.below(24) {
            0..5 => self.send().await,
            5..10 => self.listen().await,
            10..18 => self.work(),
            18 => advance(Duration::from_millis(self.dice.of(&[1, 500, 4000, 20_000]))).await,
            19 | 20 => self.misbehave().await,
            21 => self.ask(),
            22 if self.clients.len() < 5 => {
                let group = self.dice.below(2);
                self.join(group).await;
            }
            _ if self.clients.len() > 2 && self.dice.below(6) == 0 => {
                let at = self.dice.below(self.clients.len());
                let client = self.clients.remove(at);
                if self.dice.below(2) == 0 {
                    client.source.close(now()).await.ok();
                }
            }
            _ => {}
        }
    }

    /// A run of one session; its numbers are those of its landing.
    async fn send(&mut self) {
        let session = self.dice.of(&SESSIONS);
        let n = 1 + self.dice.below(3) as u64;
        let from = self.sent.get(session).copied().unwrap_or(0);
        let messages = (1..=n).map(|i| Arc::new(Content::new((from + i).to_le_bytes().to_vec()))).collect();
        let ticket = ticket();
        self.sink.submit(&mut vec![Run { ticket, session: id(session), messages, until: Moment::NEVER }]);
        let mut sent = Vec::new();
        let mut landed = None;
        if timeout(Duration::ZERO, self.sink.next(&mut sent)).await.is_ok() {
            let outcome = sent.into_iter().find(|sent| sent.ticket == ticket).map(|sent| sent.outcome);
            landed = outcome.map(|outcome| outcome.is_ok());
        }
        // Whatever is not known is asked for, before anything else of the session goes out.
        let unsure = landed != Some(true);
        if unsure && self.broker.producer(CHANNEL).await.is_ok() {
            let fate = self.sink.fate(ticket, now() + Duration::from_secs(1)).await;
            landed = Some(landed == Some(true) || matches!(fate, Ok(Fate::Landed)));
        } else if unsure {
            self.faults().thaw();
            landed = Some(matches!(self.sink.fate(ticket, now()).await, Ok(Fate::Landed)));
        }
        if landed == Some(true) {
            self.sent.insert(session, from + n);
        }
    }

    fn ask(&mut self) {
        let at = self.dice.below(self.clients.len());
        let wanted = self.dice.below(3) as u32;
        let named =
            Command::AcceptNamed { session: id(self.dice.of(&SESSIONS)), until: now() + Duration::from_secs(2) };
        let mut commands = vec![Command::Accept { wanted }];
        if self.dice.below(4) == 0 {
            commands.push(named);
        }
        self.clients[at].source.submit(&mut commands);
    }

    async fn listen(&mut self) {
        let at = self.dice.below(self.clients.len());
        self.listen_to(at).await;
    }

    async fn listen_to(&mut self, at: usize) {
        let mut events = Vec::new();
        self.clients[at].rights.values_mut().for_each(|right| right.heard_over = right.over);
        let source = Arc::clone(&self.clients[at].source);
        if timeout(Duration::ZERO, source.next(&mut events)).await.is_ok() {
            for event in events {
                self.hear(at, event);
            }
        }
    }

    fn hear(&mut self, at: usize, event: Event) {
        let (seed, lanes) = (self.seed, self.lanes);
        let client = &mut self.clients[at];
        let group = client.group;
        match event {
            Event::Granted { grant, .. } => {
                assert!(client.highest.is_none_or(|highest| highest < grant), "seed {seed}: epochs grow");
                client.highest = Some(grant);
                client.rights.insert(grant, Right::default());
                client.source.submit(&mut vec![Command::Renew { grant }]);
            }
            Event::Delivered { grant, message } => {
                let Some(right) = client.rights.get_mut(&grant) else {
                    panic!("seed {seed}: a message under a right that is over or never was")
                };
                let number = u64::from_le_bytes(message.content.body().as_ref().try_into().unwrap());
                assert!(!right.heard_over, "seed {seed}: a message under a right that was given back");
                if right.over {
                    return;
                }
                assert!(message.position.value > right.last, "seed {seed}: positions grow");
                right.last = message.position.value;
                let known = self.known.get(&(group, message.session.clone())).copied().unwrap_or_default();
                match right.next.get(&message.session) {
                    Some(next) => assert_eq!(number, *next, "seed {seed}: no gap within a right"),
                    None => assert!(
                        number > known.certain && number <= known.maybe + 1,
                        "seed {seed}: {number} of {} comes first, {} is settled, {} may be",
                        message.session,
                        known.certain,
                        known.maybe
                    ),
                }
                let settled = |n: u64| !lanes && n <= known.certain;
                assert!(!settled(number), "seed {seed}: what is settled comes no more");
                right.next.insert(message.session.clone(), number + 1);
                right.out.push((message, number));
            }
            Event::Settled { grant, ticket, answer } => {
                let Some(right) = client.rights.get_mut(&grant) else {
                    panic!("seed {seed}: an answer under a right that is over")
                };
                let Some((asked, upto)) = right.asked.take() else { panic!("seed {seed}: an answer nobody asked for") };
                assert_eq!(asked, ticket, "seed {seed}: answers in order");
                if answer == Answer::Ok {
                    for (session, number) in upto {
                        let known = self.known.entry((group, session)).or_default();
                        known.certain = known.certain.max(number);
                    }
                } else if answer == Answer::Unknown || answer == Answer::NotApplied {
                    right.over = true;
                    client.source.submit(&mut vec![Command::Surrender { grant }]);
                }
            }
            Event::SetAside { .. } | Event::Proved { .. } | Event::Passed { .. } => {
                let grant = event.grant().unwrap();
                assert!(client.rights.contains_key(&grant), "seed {seed}: {event:?} under a right that is over");
            }
            Event::Revoking { grant, .. } => {
                assert!(client.rights.contains_key(&grant), "seed {seed}: a right is asked for that nobody has");
                let at_once = self.dice.below(2) == 0;
                if at_once {
                    client.give_up(grant);
                    client.source.submit(&mut vec![Command::Release { grant }]);
                }
            }
            Event::Lost { grant, .. } => {
                assert!(client.rights.remove(&grant).is_some(), "seed {seed}: a loss of what nobody has");
            }
            _ => {}
        }
    }

    /// Handles something, settles, renews or gives back.
    fn work(&mut self) {
        let at = self.dice.below(self.clients.len());
        let grants = self.clients[at].held();
        if grants.is_empty() {
            return;
        }
        let grant = self.dice.of(&grants);
        match self.dice.below(12) {
            0..8 => self.settle(at, grant),
            8 => self.clients[at].source.submit(&mut vec![Command::Renew { grant }]),
            9 => {
                let on = self.dice.below(3) > 0;
                self.clients[at].source.submit(&mut vec![Command::Read { grant, on }]);
            }
            10 => self.set_aside(at, grant),
            _ => {
                self.clients[at].give_up(grant);
                let give_back = [Command::Release { grant }, Command::Surrender { grant }];
                let [release, surrender] = give_back;
                let command = if self.dice.below(2) == 0 { release } else { surrender };
                self.clients[at].source.submit(&mut vec![command]);
            }
        }
    }

    fn settle(&mut self, at: usize, grant: Grant) {
        let (lanes, group) = (self.lanes, self.clients[at].group);
        let Some(right) = self.clients[at].rights.get_mut(&grant) else { return };
        if right.asked.is_some() || right.out.is_empty() {
            return;
        }
        let n = 1 + self.dice.below(right.out.len().min(3));
        let ticket = ticket();
        let mut upto = Vec::new();
        if lanes {
            // A prefix of some session: what of it was delivered first and is not done.
            for _ in 0..n {
                let session = right.out[self.dice.below(right.out.len())].0.session.clone();
                let open =
                    right.out.iter().find(|(m, _)| m.session == session && !right.done.contains(&m.position.value));
                if let Some((message, number)) = open {
                    right.done.insert(message.position.value);
                    upto.push((session, *number));
                }
            }
        } else {
            let (message, number) = &right.out[0];
            right.done.insert(message.position.value);
            upto.push((message.session.clone(), *number));
        }
        let open = right.out.iter().map(|(m, _)| m.position.value).find(|p| !right.done.contains(p));
        let watermark = open.unwrap_or(right.last + 1);
        let above: Vec<u64> = right.done.range(watermark..).copied().filter(|p| !right.told.contains(p)).collect();
        right.told.extend(above.iter().copied());
        right.out.retain(|(m, _)| m.position.value >= watermark);
        for (session, number) in &upto {
            let known = self.known.entry((group, session.clone())).or_default();
            known.maybe = known.maybe.max(*number);
        }
        right.asked = Some((ticket, upto));
        let above = if lanes { Above::Done(above) } else { Above::Nothing };
        let progress = Progress { watermark, end: right.last + 1, above };
        self.clients[at].source.submit(&mut vec![Command::Settle { grant, ticket, progress }]);
    }

    fn set_aside(&mut self, at: usize, grant: Grant) {
        let group = self.clients[at].group;
        let Some(right) = self.clients[at].rights.get_mut(&grant) else { return };
        if right.asked.is_some() || right.out.is_empty() {
            return;
        }
        let (message, number) = right.out[0].clone();
        self.dead.insert((group, message.session.clone(), number));
        if !self.lanes {
            let known = self.known.entry((group, message.session.clone())).or_default();
            known.maybe = known.maybe.max(number);
            right.out.remove(0);
            // Whether it is settled is not known until the answer; the right is given back to find out.
            right.over = true;
        }
        let reason = Reason::new("handler", "", 1);
        let mut commands = vec![Command::SetAside { grant, message, reason }];
        if !self.lanes {
            commands.push(Command::Surrender { grant });
        }
        self.clients[at].source.submit(&mut commands);
    }

    async fn misbehave(&mut self) {
        let faults = self.group_faults();
        let consumers = faults.consumers();
        let fault = self.dice.of(&[
            AnswerFault::Delay(Duration::from_secs(2)),
            AnswerFault::Refuse,
            AnswerFault::NotApplied,
            AnswerFault::Unanswered,
            AnswerFault::AnswerLost,
        ]);
        let place = if self.lanes {
            Place::Lane(self.dice.below(3) as u32)
        } else {
            Place::Session(id(self.dice.of(&SESSIONS)))
        };
        let _ = match self.dice.below(14) {
            0 => faults.lose(&place),
            1 => faults.hand_to_another(&place),
            2 => faults.give_back(&place),
            3 => faults.revoke(&place),
            4 => {
                faults.settlements(1, fault);
                true
            }
            5 => {
                faults.renewals(1, fault);
                true
            }
            6 => {
                faults.set_asides(1, fault);
                true
            }
            7 if !consumers.is_empty() => faults.cut(self.dice.of(&consumers), Some(Duration::from_secs(2))),
            8 if !consumers.is_empty() => faults.silence(self.dice.of(&consumers)),
            9 | 10 if !consumers.is_empty() => faults.reconnect(self.dice.of(&consumers)),
            11 => {
                self.faults().freeze();
                true
            }
            12 => {
                self.faults().thaw();
                true
            }
            _ => {
                let send = self.dice.of(&[
                    SendFault::Refuse,
                    SendFault::Full,
                    SendFault::Landed,
                    SendFault::NeverLands,
                    SendFault::LandsLate(Landing::OnCommand),
                ]);
                self.faults().channel(CHANNEL).unwrap().sends(1, send);
                true
            }
        };
        if self.dice.below(3) == 0 {
            self.faults().thaw();
        }
    }

    /// All faults end, and two new consumers finish the work.
    async fn heal(mut self) {
        self.faults().thaw();
        self.faults().channel(CHANNEL).unwrap().clear();
        self.clients.clear();
        for (group, name) in GROUPS.iter().enumerate() {
            let faults = self.faults().group(CHANNEL, name).unwrap();
            faults.clear();
            self.join(group).await;
            self.clients[group].source.submit(&mut vec![Command::Accept { wanted: 2 }]);
        }
        for _ in 0..2_000 {
            for at in 0..2 {
                self.listen_to(at).await;
                let grants = self.clients[at].held();
                for grant in grants {
                    self.settle(at, grant);
                    let right = &self.clients[at].rights[&grant];
                    if !self.lanes && right.out.is_empty() && right.asked.is_none() && self.dice.below(4) == 0 {
                        self.clients[at].give_up(grant);
                        self.clients[at].source.submit(&mut vec![Command::Release { grant }]);
                    }
                }
            }
            if self.broker.stats(CHANNEL).unwrap().messages == 0 {
                break;
            }
            advance(Duration::from_millis(200)).await;
        }
        let stats = self.broker.stats(CHANNEL).unwrap();
        assert_eq!((stats.messages, stats.bytes), (0, 0), "seed {}: all is settled in the end: {stats:?}", self.seed);
        for (at, client) in self.clients.iter().enumerate() {
            for (session, sent) in &self.sent {
                let known = self.known.get(&(at, id(session))).copied().unwrap_or_default();
                assert_eq!(known.maybe, *sent, "seed {}: all of {session} in group {}", self.seed, client.group);
            }
            let dead = self.broker.dead_letters(CHANNEL, GROUPS[at]).await.unwrap().list(0, usize::MAX).await.unwrap();
            for letter in dead {
                let number = u64::from_le_bytes(letter.content.body().as_ref().try_into().unwrap());
                assert!(self.dead.contains(&(at, letter.session.clone(), number)), "seed {}", self.seed);
            }
        }
        self.clients.clear();
        advance(Duration::from_secs(60)).await;
        let stats = self.broker.stats(CHANNEL).unwrap();
        let locks: usize = stats.groups.iter().map(|g| g.locks + g.free_sessions + g.waiting_by_name).sum();
        assert_eq!((stats.sessions, stats.consumers, locks), (0, 0, 0), "seed {}: {stats:?}", self.seed);
    }
}
