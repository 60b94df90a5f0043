//! One lane on one connection: subscribed, perhaps active, settled and renewed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use convoy_core::backend::{
    Answer, Command, Event, Grant, LeaseCell, Loss, Place, Progress, Reason, Recovered, Ticket,
};
use convoy_core::runtime::{instant, now};
use convoy_core::{Inbound, Moment, Position, Result};
use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep_until, timeout};
use uuid::Uuid;

use crate::config::Options;
use crate::connection::{Link, Pause, Publishing, Registration};
use crate::dead::Copies;
use crate::envelope::{self, Stands};
use crate::error;
use crate::names::{self, Names};
use crate::outbox::Outbox;
use crate::probes::{self, Bindings};
use crate::settle::{Ack, Acks};

/// Who gives a lane up registers again after this, so that its new owner stands before it.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_millis(400);
/// So long a channel that is given up may take for an answer, to close for example; then the connection is given up.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// A probe without an effect is sent again after this.
pub(crate) const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// After so many refusals in a row, for want of a permission, the consumer ends: somebody has to act.
const REFUSALS: u32 = 5;
/// So many deliveries are taken at once.
const AT_ONCE: usize = 256;

/// What a lane is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    /// By the engine.
    Do(Command),
    /// Another member is to have it.
    Move,
    /// It should be this member's by now: find out whether it is.
    Probe,
}

/// What all lanes of a consumer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) names: Names,
    pub(crate) events: Outbox<Event>,
    pub(crate) copies: Arc<Copies>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) last_epoch: AtomicU64,
    /// Which lanes are held, by their numbers.
    pub(crate) held: Vec<AtomicBool>,
    /// Which lanes are this member's by now, or may become it, as it sees the others.
    pub(crate) expected: Vec<AtomicBool>,
}

/// Why a lane's task ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was asked to leave.
    Left,
    /// The connection is of no use any more.
    Broken,
    /// The consumer cannot go on.
    Failed(convoy_core::Error),
}

/// A lane on a connection.
pub(crate) struct Lane {
    pub(crate) lane: u32,
    pub(crate) link: Arc<Link>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) asks: UnboundedReceiver<Ask>,
    pub(crate) leaving: bool,
    queue: ShortString,
}

/// One registration with the broker.
struct Subscription {
    channel: Channel,
    registration: Registration,
    /// Commands for the queue since its log was last known to have taken all before.
    unproved: usize,
    /// It ends since its right was given back, and not since the broker ended it.
    given_back: bool,
    held: Option<Held>,
    /// The request under way that is evidence and makes acknowledgements known, with what it answers.
    asking: Option<Asking>,
    acks: Vec<Ack>,
    tickets: Vec<Ticket>,
    renew: bool,
    copying: FuturesUnordered<BoxFuture<'static, (Grant, u64, Answer)>>,
    /// When this registration asked last whether it is the active one, and the question while it is on its way.
    probed: Option<Moment>,
    probing: Option<BoxFuture<'static, ()>>,
    bindings: Bindings,
}

struct Asking {
    asked_at: Moment,
    tickets: Vec<Ticket>,
    answer: BoxFuture<'static, Result<()>>,
}

/// The right to the lane: the broker has delivered from it.
struct Held {
    grant: Grant,
    lease: Arc<LeaseCell>,
    acks: Acks,
    reading: bool,
    aside: VecDeque<Event>,
    revoking: bool,
}

/// What ends a registration.
enum Over {
    /// Register again, after a while.
    Again,
    /// Leave.
    Leave,
    /// The connection is of no use any more.
    Broken,
    /// The queue is gone.
    Gone(convoy_core::Error),
    /// The consumer cannot go on.
    Failed(convoy_core::Error),
}

impl Lane {
    pub(crate) fn new(
        lane: u32,
        link: Arc<Link>,
        shared: Arc<Shared>,
        asks: UnboundedReceiver<Ask>,
        leaving: bool,
    ) -> Self {
        let queue = shared.names.lane(lane);
        Self { lane, link, shared, asks, leaving, queue }
    }

    /// Registers for the lane, again and again, until it is asked to leave or the connection breaks.
    pub(crate) async fn run(mut self, ready: impl FnOnce()) -> Ended {
        let mut ready = Some(ready);
        let (mut pause, mut refusals) = (Pause::new(), 0);
        while !self.leaving {
            let subscribed = self.subscribe().await;
            if let Some(ready) = ready.take() {
                ready();
            }
            let over = match subscribed {
                Ok(mut subscription) => {
                    (pause, refusals) = (Pause::new(), 0);
                    let over = self.serve(&mut subscription).await;
                    self.lose(&mut subscription, loss_of(&over));
                    match over {
                        Over::Broken => over,
                        over => {
                            if self.unsubscribe(subscription).await {
                                over
                            } else {
                                Over::Broken
                            }
                        }
                    }
                }
                Err(_) if self.link.is_broken() => Over::Broken,
                Err(why) if why.kind() == convoy_core::ErrorKind::NotFound => Over::Gone(why),
                Err(why) => {
                    tracing::warn!(queue = self.queue.as_str(), error = ?why, "cannot consume from a lane");
                    refusals += u32::from(why.kind() == convoy_core::ErrorKind::Unauthorized);
                    if refusals >= REFUSALS {
                        return Ended::Failed(why);
                    }
                    if !self.rest(pause.next()).await { Over::Broken } else { Over::Again }
                }
            };
            match over {
                Over::Again if self.leaving => {}
                Over::Again => {
                    if !self.rest(AGAIN_AFTER).await {
                        return Ended::Broken;
                    }
                }
                Over::Leave => {}
                Over::Broken => return Ended::Broken,
                Over::Gone(why) => return Ended::Failed(error::lane_gone(self.queue.as_str(), why)),
                Over::Failed(why) => return Ended::Failed(why),
            }
        }
        Ended::Left
    }

    /// Waits; what is asked meanwhile is about rights that are gone. Whether the connection still stands.
    async fn rest(&mut self, time: Duration) -> bool {
        let until = now() + time;
        loop {
            tokio::select! {
                biased;
                () = self.link.broken() => return false,
                ask = self.asks.recv() => match ask {
                    Some(Ask::Do(Command::Leave)) | None => {
                        self.leaving = true;
                        return true;
                    }
                    Some(_) => {}
                },
                () = sleep_until(instant(until)) => return true,
            }
        }
    }

    async fn subscribe(&self) -> Result<Subscription> {
        let channel = self.link.channel("consume").await?;
        let prefetch = channel.basic_qos(self.shared.options.prefetch, BasicQosOptions::default());
        self.link.ask("consume", prefetch).await?;
        let tag = names::short(format!("convoy-{}", Uuid::now_v7()));
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = channel.basic_consume(self.queue.clone(), tag, options, none);
        let consumer = self.link.ask("consume", consume).await;
        let consumer = consumer.map_err(|why| error::lacks(why, "read", "queue", self.queue.as_str()))?;
        let registration = Registration::new(&self.link, &channel, consumer);
        Ok(Subscription {
            channel,
            registration,
            unproved: 0,
            given_back: false,
            held: None,
            asking: None,
            acks: Vec::new(),
            tickets: Vec::new(),
            renew: false,
            copying: FuturesUnordered::new(),
            probed: None,
            probing: None,
            bindings: Bindings::of(self.lane, &self.shared),
        })
    }

    /// Closes the channel, and only then lets the consumer go: its end would be a cancel otherwise, after which the broker gives the lane away under unsettled messages.
    /// Whether the connection still is of use.
    async fn unsubscribe(&self, subscription: Subscription) -> bool {
        let Subscription { channel, mut registration, asking, unproved, given_back, .. } = subscription;
        // A second registration beside one that the broker has ended would become the active one.
        let mut prove = given_back && unproved > 0;
        while prove && let Some(next) = registration.next().now_or_never() {
            // What is delivered here comes again to whoever is next.
            prove = matches!(next, Some(Ok(_)));
        }
        let close = async {
            if prove {
                // In a cluster whose nodes change the lead of a queue, the channel may still have to say again what was acknowledged, and forgets it when it closes. What cannot be asked any more
                // comes again.
                second(&channel, self.queue.clone()).await.ok();
            }
            channel.close(200, "given back".into()).await
        };
        let closed = tokio::select! {
            biased;
            closed = timeout(if prove { 2 * CLOSE_LIMIT } else { CLOSE_LIMIT }, close) => closed.is_ok(),
            () = self.link.broken() => false,
        };
        drop(asking);
        // A channel that the broker closed itself has nothing to close.
        let of_use = closed && !self.link.is_broken();
        if of_use {
            registration.let_go();
        }
        of_use
    }

    async fn serve(&mut self, on: &mut Subscription) -> Over {
        let mut batch = Vec::new();
        let link = Arc::clone(&self.link);
        let broken = link.broken();
        tokio::pin!(broken);
        loop {
            on.ask(&self.queue, &self.link);
            if let Some(over) = self.looked_at_bindings(on) {
                return over;
            }
            let held = on.held.is_some();
            let Subscription { registration, asking, copying, probing, bindings, .. } = &mut *on;
            let probed = probing.is_some();
            let probe = async {
                if let Some(probing) = probing {
                    probing.await;
                }
            };
            let copies = !copying.is_empty();
            let answer = async {
                match asking {
                    Some(asking) => (&mut asking.answer).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut broken => return Over::Broken,
                ask = self.asks.recv() => {
                    if let Some(over) = self.asked(on, ask) {
                        return over;
                    }
                }
                answer = answer => {
                    // What the broker said before it answered is in hand: a consumer that it ended is seen here, before what it answered counts.
                    let ended = self.take(on, &mut batch, usize::MAX);
                    if let Some(over) = self.answered(on, answer, ended) {
                        return over;
                    }
                }
                Some((grant, position, answer)) = copying.next(), if copies => {
                    if on.held.as_ref().is_some_and(|held| held.grant == grant) {
                        self.shared.events.push(Event::SetAside { grant, position, answer });
                    }
                }
                () = probe, if probed => on.probing = None,
                looked = bindings.next(), if held => {
                    if let Err(why) = looked {
                        return Over::Failed(why);
                    }
                }
                delivered = registration.next() => {
                    let ended = match delivered {
                        Some(Ok(delivery)) => {
                            self.delivered(on, delivery, &mut batch);
                            self.take(on, &mut batch, AT_ONCE)
                        }
                        Some(Err(why)) => Some(Some(why)),
                        None => Some(None),
                    };
                    self.shared.events.append(&mut batch);
                    if let Some(why) = ended {
                        return self.ended(why);
                    }
                }
            }
        }
    }

    /// Takes what was delivered, without waiting. Gives the end of the stream, if it is there.
    fn take(&self, on: &mut Subscription, batch: &mut Vec<Event>, most: usize) -> Option<Option<lapin::Error>> {
        let mut end = None;
        for _ in 0..most {
            match on.registration.next().now_or_never() {
                None => break,
                Some(Some(Ok(delivery))) => self.delivered(on, delivery, batch),
                Some(Some(Err(why))) => {
                    end = Some(Some(why));
                    break;
                }
                Some(None) => {
                    end = Some(None);
                    break;
                }
            }
        }
        self.shared.events.append(batch);
        end
    }

    /// The broker ended the consumer: the right is gone, and on 4.3 a late acknowledgement would be taken in silence.
    fn ended(&self, why: Option<lapin::Error>) -> Over {
        match why {
            _ if self.link.is_broken() => Over::Broken,
            Some(why) if error::is_missing(&why) => Over::Gone(error::of(why, "consume")),
            Some(why) if why.is_amqp_soft_error() => {
                tracing::warn!(queue = self.queue.as_str(), error = %why, "the broker closed the channel of a lane");
                Over::Again
            }
            Some(_) => Over::Broken,
            None => {
                tracing::warn!(queue = self.queue.as_str(), "the broker ended the consumer of a lane");
                Over::Again
            }
        }
    }

    fn delivered(&self, on: &mut Subscription, mut delivery: Delivery, batch: &mut Vec<Event>) {
        let held = on.held.get_or_insert_with(|| self.granted(delivery.delivery_tag));
        let tag = delivery.delivery_tag;
        let epoch = held.grant.epoch();
        if envelope::is_probe(&delivery.properties) {
            held.acks.alone(tag, &mut on.acks);
            on.renew = true;
            if let Some(asks) = envelope::asks(&delivery.properties) {
                on.bindings.heard(asks);
            }
            let event = Event::Passed { grant: held.grant, below: tag + 1 };
            return if held.reading { batch.push(event) } else { held.aside.push_back(event) };
        }
        let body = Bytes::from(std::mem::take(&mut delivery.data));
        let position = Position { generation: epoch as u32, value: tag };
        let (lanes, entry) = (self.shared.names.lanes, self.shared.names.entry);
        // Tags of one channel stay far below 2^40.
        let at = Stands { lane: self.lane, lanes, entry, position, place: (epoch << 40) | tag, delivery: &delivery };
        let event = Event::Delivered { grant: held.grant, message: envelope::incoming(&at, body) };
        if held.reading { batch.push(event) } else { held.aside.push_back(event) }
    }

    /// The first delivery on a registration is how a member learns that the lane is its own.
    fn granted(&self, first: u64) -> Held {
        let place = Place::Lane(self.lane);
        let lease = Arc::new(LeaseCell::default());
        self.link.guard(&lease);
        self.holds(true);
        // Lanes win their rights side by side, and the engine takes none with a lower number than one that it knows.
        let grant = self.shared.events.push_with(|| {
            let epoch = self.shared.last_epoch.fetch_add(1, Ordering::Relaxed) + 1;
            let grant = Grant::new(epoch, &place);
            let start = Position { generation: epoch as u32, value: first };
            let lease = Arc::clone(&lease);
            (Event::Granted { grant, place, start, recovered: Recovered::default(), lease }, grant)
        });
        Held { grant, lease, acks: Acks::default(), reading: true, aside: VecDeque::new(), revoking: false }
    }

    fn holds(&self, is: bool) {
        if let Some(held) = self.shared.held.get(self.lane as usize) {
            held.store(is, Ordering::Relaxed);
        }
    }

    /// Ends the right, if there is one, and says so.
    fn lose(&self, on: &mut Subscription, why: Option<Loss>) {
        self.holds(false);
        let Some(held) = on.held.take() else { return };
        held.lease.end();
        if let Some(why) = why {
            self.shared.events.push(Event::Lost { grant: held.grant, why });
        }
    }

    /// Carries out what was asked. Gives what ends the registration.
    fn asked(&mut self, on: &mut Subscription, ask: Option<Ask>) -> Option<Over> {
        let command = match ask {
            None => {
                self.leaving = true;
                return Some(Over::Leave);
            }
            Some(Ask::Move) => return self.asked_to_move(on),
            Some(Ask::Probe) => {
                if on.held.is_none() && on.probed.is_none_or(|at| now().since(at) >= PROBE_AGAIN) {
                    on.probed = Some(now());
                    let (publishing, queue) = (Arc::clone(&self.shared.publishing), self.queue.clone());
                    on.probing = Some(Box::pin(probes::of_holder(publishing, queue)));
                }
                return None;
            }
            Some(Ask::Do(command)) => command,
        };
        if let Command::Leave = command {
            self.leaving = true;
            return on.held.is_none().then_some(Over::Leave);
        }
        let held = on.held.as_mut()?;
        match command {
            Command::Settle { grant, ticket, progress } if grant == held.grant => on.settle(ticket, &progress),
            Command::Renew { grant } if grant == held.grant => on.renew = true,
            Command::SetAside { grant, message, reason } if grant == held.grant => {
                on.copying.push(self.copy(grant, message, reason));
            }
            Command::Read { grant, on: reading } if grant == held.grant => {
                held.reading = reading;
                if reading {
                    let mut aside = Vec::from(std::mem::take(&mut held.aside));
                    self.shared.events.append(&mut aside);
                }
            }
            Command::Release { grant } | Command::Surrender { grant } if grant == held.grant => {
                held.lease.end();
                on.held = None;
                on.given_back = true;
                return Some(if self.leaving { Over::Leave } else { Over::Again });
            }
            _ => {}
        }
        None
    }

    fn asked_to_move(&self, on: &mut Subscription) -> Option<Over> {
        match &mut on.held {
            None => Some(Over::Again),
            Some(held) if held.revoking => None,
            Some(held) => {
                held.revoking = true;
                let until = now() + self.shared.options.handover;
                self.shared.events.push(Event::Revoking { grant: held.grant, until });
                None
            }
        }
    }

    /// What is found missing is made again where that is allowed; elsewhere the consumer ends with it, since messages are lost all the while.
    fn looked_at_bindings(&self, on: &mut Subscription) -> Option<Over> {
        let queue = self.queue.as_str();
        if on.held.is_some() {
            on.bindings.begin(&self.queue, &self.shared);
        }
        let slot = on.bindings.missing()?;
        let channel = &self.shared.names.channel;
        if !self.shared.options.auto_create {
            return Some(Over::Failed(error::unbound(queue, slot, channel)));
        }
        tracing::error!(
            queue,
            slot,
            channel,
            "a binding is missing, and is made again: what was sent to it meanwhile did not come"
        );
        on.bindings.repair(&self.link, &self.shared);
        None
    }

    fn copy(&self, grant: Grant, message: Inbound, reason: Reason) -> BoxFuture<'static, (Grant, u64, Answer)> {
        let (copies, position) = (Arc::clone(&self.shared.copies), message.position.value);
        Box::pin(async move { (grant, position, copies.put(&message, &reason).await) })
    }

    /// The broker answered, or did not.
    fn answered(&self, on: &mut Subscription, answer: Result<()>, ended: Option<Option<lapin::Error>>) -> Option<Over> {
        let asking = on.asking.take()?;
        if let Some(why) = ended {
            return Some(self.ended(why));
        }
        match answer {
            Ok(()) => {
                let grant = on.held.as_ref()?.grant;
                let mut told: Vec<Event> = asking
                    .tickets
                    .into_iter()
                    .map(|ticket| Event::Settled { grant, ticket, answer: Answer::Ok })
                    .collect();
                told.push(Event::Proved { grant, asked_at: asking.asked_at, valid_for: self.shared.options.heartbeat });
                self.shared.events.append(&mut told);
                None
            }
            Err(_) if self.link.is_broken() => Some(Over::Broken),
            Err(why) if why.kind() == convoy_core::ErrorKind::NotFound => Some(Over::Gone(why)),
            Err(why) => {
                tracing::warn!(queue = self.queue.as_str(), error = ?why, "a lane's right could not be proved");
                Some(Over::Again)
            }
        }
    }
}

impl Subscription {
    fn settle(&mut self, ticket: Ticket, progress: &Progress) {
        if let Some(held) = &mut self.held {
            held.acks.plan(progress, &mut self.acks);
            self.tickets.push(ticket);
        }
    }

    /// Sends what is to be acknowledged, and behind it a request with an answer: acknowledgements have none. One at a time is under way.
    ///
    /// The client of a quorum queue inside the broker holds acknowledgements back while 32 of its commands are not in the queue's log yet, and forgets those when the channel closes;
    /// a declaration is answered all the same. So no more are sent than it takes without that, and then a request follows that goes through the log itself: a second
    /// registration, which waits behind the first one, and its end.
    fn ask(&mut self, queue: &ShortString, link: &Arc<Link>) {
        let wanted = self.renew || !self.tickets.is_empty();
        if !wanted || self.asking.is_some() || self.held.is_none() {
            return;
        }
        self.renew = false;
        let (channel, link, queue) = (self.channel.clone(), Arc::clone(link), queue.clone());
        let room = COMMANDS.saturating_sub(self.unproved).min(self.acks.len());
        let acks: Vec<Ack> = self.acks.drain(..room).collect();
        self.unproved += acks.len();
        let through_the_log = self.unproved >= COMMANDS;
        if through_the_log {
            self.unproved = 0;
        }
        // What is left over is told with the next request, and only then is all of it known.
        let tickets = if self.acks.is_empty() { std::mem::take(&mut self.tickets) } else { Vec::new() };
        let asked_at = now();
        let answer = async move {
            let told = acks.iter().map(|ack| channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
            let asked =
                async { if through_the_log { second(&channel, queue).await } else { passive(&channel, queue).await } };
            // Polled in this order, so written in this order. A failed acknowledgement means that the channel is gone, and then there is no answer.
            link.ask("settle", join(join_all(told), asked).map(|(_, answer)| answer)).await
        };
        self.asking = Some(Asking { asked_at, tickets, answer: Box::pin(answer) });
    }
}

/// So many commands the broker's own client of a quorum queue sends on at once, with some room left.
const COMMANDS: usize = 28;

async fn passive(channel: &Channel, queue: ShortString) -> lapin::Result<()> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue, passive, FieldTable::default()).await.map(|_| ())
}

/// Registers a second time and takes that back. It never becomes the active one while the first stands, so it holds no message when it ends.
async fn second(channel: &Channel, queue: ShortString) -> lapin::Result<()> {
    let tag = names::short(format!("convoy-{}", Uuid::now_v7()));
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue, tag.clone(), options, FieldTable::default()).await?;
    let ended = channel.basic_cancel(tag, BasicCancelOptions::default()).await;
    drop(consumer);
    ended
}

fn loss_of(over: &Over) -> Option<Loss> {
    Some(match over {
        Over::Broken => Loss::Disconnected,
        Over::Gone(_) => Loss::Gone,
        Over::Again | Over::Leave | Over::Failed(_) => Loss::Revoked,
    })
}
