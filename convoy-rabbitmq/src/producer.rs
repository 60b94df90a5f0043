//! Sending: each session one message at a time (which is the pipeline's business), all sessions on one AMQP channel, every one confirmed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::{Fate, Run, Sent, Sink, Ticket};
use convoy_core::runtime::{instant, now};
use convoy_core::{Error, MessageId, Moment, Result};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hashbrown::{HashMap, HashSet};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep_until, timeout_at};

use crate::config::Options;
use crate::connection::{Link, Pause, Publishing};
use crate::departures::Departures;
use crate::entry::Entry;
use crate::outbox::Outbox;
use crate::{envelope, error};

/// How often it is looked whether the broker takes messages again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

type Set<T> = HashSet<T, foldhash::fast::RandomState>;
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A producer of one channel.
#[derive(Debug)]
pub(crate) struct RabbitSink {
    options: Options,
    runs: UnboundedSender<Run>,
    shared: Arc<Shared>,
    departures: Departures,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    channel: String,
    exchange: ShortString,
    entry: Entry,
    sent: Outbox<Sent>,
    fates: Fates,
}

/// What is known of runs whose outcome was told as unknown.
#[derive(Debug, Default)]
struct Fates {
    of: Mutex<Map<Ticket, Known>>,
    moved: Notify,
}

#[derive(Clone, Debug)]
enum Known {
    /// Its connection lives, and the answer may still come.
    Waiting,
    /// The answer came late.
    Is(Fate),
    /// Its connection is gone, and with it this queue, once the broker has seen it too.
    Gone(Option<String>),
}

impl Fates {
    fn set(&self, ticket: Ticket, known: Known) {
        self.of.lock().insert(ticket, known);
        self.moved.notify_waiters();
    }

    fn get(&self, ticket: Ticket) -> Option<Known> {
        self.of.lock().get(&ticket).cloned()
    }
}

impl RabbitSink {
    pub(crate) fn start(options: &Options, channel: &str, exchange: ShortString, publishing: Arc<Publishing>) -> Self {
        let (runs, taken) = unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (tell_end, ended) = watch::channel(false);
        let (sent, fates) = (Outbox::new(), Fates::default());
        let shared = Arc::new(Shared { channel: channel.to_owned(), exchange, entry: options.entry, sent, fates });
        let work = Work::new(Arc::clone(&shared), Arc::clone(&publishing));
        tokio::spawn(async move {
            work.run(taken, stopped).await;
            tell_end.send_replace(true);
        });
        let departures = Departures::new(publishing);
        Self { options: options.clone(), runs, shared, departures, stop, ended }
    }
}

#[async_trait]
impl Sink for RabbitSink {
    fn max_message(&self) -> usize {
        self.options.max_message
    }

    fn submit(&self, runs: &mut Vec<Run>) {
        for run in runs.drain(..) {
            if let Err(refused) = self.runs.send(run) {
                self.shared.sent.push(Sent { ticket: refused.0.ticket, outcome: Err(error::closed("send")) });
            }
        }
    }

    async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
        self.shared.sent.take(into, || error::closed("send")).await
    }

    async fn fate(&self, ticket: Ticket, until: Moment) -> Result<Fate> {
        loop {
            let moved = self.shared.fates.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            match self.shared.fates.get(ticket) {
                None => return Ok(Fate::Unknown),
                Some(Known::Is(fate)) => {
                    self.shared.fates.of.lock().remove(&ticket);
                    return Ok(fate);
                }
                Some(Known::Gone(mark)) => {
                    if let Some(mark) = mark {
                        self.departures.wait(&mark, until).await?;
                    }
                    self.shared.fates.of.lock().remove(&ticket);
                    return Ok(Fate::Unknown);
                }
                // The connection is left alone: what stands in its socket would land after an alarm, behind what is sent then.
                Some(Known::Waiting) => {
                    if timeout_at(instant(until), moved).await.is_err() {
                        return Err(error::no_answer("ask for the fate of a send"));
                    }
                }
            }
        }
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.stop.send_replace(true);
        self.departures.stop();
        let mut ended = self.ended.clone();
        match timeout_at(instant(until), ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(error::no_answer("close")),
        }
    }
}

/// The task of a producer.
struct Work {
    shared: Arc<Shared>,
    publishing: Arc<Publishing>,
    on: Option<(Arc<Link>, Channel)>,
    /// What has not left.
    waiting: VecDeque<Run>,
    /// What left and is not confirmed, with the time until which its sender waits.
    out: Map<Ticket, Moment>,
    by_time: BTreeSet<(Moment, Ticket)>,
    confirms: FuturesUnordered<BoxFuture<'static, Confirmed>>,
    returns: Returns,
}

struct Confirmed {
    ticket: Ticket,
    id: MessageId,
    answer: lapin::Result<Confirmation>,
}

impl Work {
    fn new(shared: Arc<Shared>, publishing: Arc<Publishing>) -> Self {
        Self {
            shared,
            publishing,
            on: None,
            waiting: VecDeque::new(),
            out: Map::default(),
            by_time: BTreeSet::new(),
            confirms: FuturesUnordered::new(),
            returns: Returns::default(),
        }
    }

    async fn run(mut self, mut runs: UnboundedReceiver<Run>, mut stopped: watch::Receiver<bool>) {
        let (mut pause, mut connect_at) = (Pause::new(), Moment::ORIGIN);
        let mut closing = false;
        loop {
            while let Ok(run) = runs.try_recv() {
                self.waiting.push_back(run);
            }
            self.expire();
            if self.on.as_ref().is_some_and(|(link, channel)| link.is_broken() || !channel.status().connected()) {
                self.broke();
            }
            if !self.waiting.is_empty() && self.on.is_none() && now() >= connect_at {
                match self.connect().await {
                    Ok(()) => pause = Pause::new(),
                    Err(why) => {
                        connect_at = now() + pause.next();
                        self.refuse_if_final(&why);
                    }
                }
            }
            self.publish();
            if closing && self.waiting.is_empty() && self.out.is_empty() {
                break;
            }
            let blocked = !self.waiting.is_empty();
            let look = if blocked && self.on.is_some() { now() + LOOK_AGAIN } else { connect_at.max(now()) };
            let look = if blocked { look } else { Moment::NEVER };
            let wake = look.min(self.next_deadline());
            let link = self.on.as_ref().map(|(link, _)| Arc::clone(link));
            let broken = async {
                match &link {
                    Some(link) => link.broken().await,
                    None => std::future::pending().await,
                }
            };
            let confirms = !self.confirms.is_empty();
            tokio::select! {
                biased;
                confirmed = self.confirms.next(), if confirms => {
                    if let Some(confirmed) = confirmed {
                        self.confirmed(confirmed);
                    }
                }
                run = runs.recv() => match run {
                    Some(run) => self.waiting.push_back(run),
                    None => closing = true,
                },
                _ = stopped.wait_for(|stop| *stop), if !closing => {
                    closing = true;
                    runs.close();
                }
                () = broken => self.broke(),
                () = sleep_until(instant(wake)) => {}
            }
        }
        self.shared.sent.close();
    }

    fn next_deadline(&self) -> Moment {
        let out = self.by_time.first().map_or(Moment::NEVER, |(until, _)| *until);
        self.waiting.iter().map(|run| run.until).min().unwrap_or(Moment::NEVER).min(out)
    }

    async fn connect(&mut self) -> Result<()> {
        let until = self.waiting.iter().map(|run| run.until).min().unwrap_or(Moment::NEVER);
        let made = async {
            let link = self.publishing.link().await?;
            let channel = link.channel("send").await?;
            link.ask("send", channel.confirm_select(ConfirmSelectOptions::default())).await?;
            Ok((link, channel))
        };
        let made: Result<_> = timeout_at(instant(until), made).await.unwrap_or_else(|_| Err(error::no_answer("send")));
        self.on = Some(made?);
        Ok(())
    }

    /// What waits for a connection that cannot be had is told at once; everything else waits for the next attempt.
    fn refuse_if_final(&mut self, why: &Error) {
        tracing::debug!(error = ?why, "a producer is not connected");
        if error::is_final(why) {
            for run in self.waiting.drain(..) {
                let refused = Error::new(why.kind(), "send")
                    .because(why.to_string())
                    .with_outcome(convoy_core::Outcome::NotApplied);
                self.shared.sent.push(Sent { ticket: run.ticket, outcome: Err(refused) });
            }
        }
    }

    /// Hands out what may leave, in order.
    fn publish(&mut self) {
        let Some((link, channel)) = &self.on else { return };
        while let Some(run) = self.waiting.front() {
            if link.is_blocked() {
                return;
            }
            let properties =
                match run.messages.first() {
                    Some(content) => {
                        envelope::outgoing(&run.session, content, link.frame()).map(|p| (Arc::clone(content), p))
                    }
                    None => Err(Error::new(convoy_core::ErrorKind::InvalidMessage, "send")
                        .because("a run has one message here")),
                };
            let ticket = run.ticket;
            let (until, key) = (run.until, self.shared.entry.key(&run.session));
            self.waiting.pop_front();
            let (content, properties, key) = match properties.and_then(|(content, p)| Ok((content, p, key?))) {
                Ok(it) => it,
                Err(why) => {
                    self.shared.sent.push(Sent { ticket, outcome: Err(why) });
                    continue;
                }
            };
            let (channel, exchange) = (channel.clone(), self.shared.exchange.clone());
            let id = content.id();
            let mut sending: BoxFuture<'static, Confirmed> = Box::pin(async move {
                let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let answer = match channel.basic_publish(exchange, key, mandatory, content.body(), properties).await {
                    Ok(confirm) => confirm.await,
                    Err(why) => Err(why),
                };
                Confirmed { ticket, id, answer }
            });
            self.out.insert(ticket, until);
            self.by_time.insert((until, ticket));
            // The first poll is what hands it to the connection: in the order of the loop.
            match (&mut sending).now_or_never() {
                Some(confirmed) => self.confirms.push(Box::pin(std::future::ready(confirmed))),
                None => self.confirms.push(sending),
            }
        }
    }

    /// One confirm came; all others that are there are looked at before any of them counts, since the client library may have put the return of one message on
    /// the confirm of another.
    fn confirmed(&mut self, first: Confirmed) {
        let mut batch = vec![first];
        while let Some(Some(more)) = self.confirms.next().now_or_never() {
            batch.push(more);
        }
        let mut told = Vec::new();
        for Confirmed { ticket, id, answer } in batch {
            match answer {
                Ok(Confirmation::Ack(returned)) => {
                    let returned = returned.map(|message| envelope::id_of(&message.properties));
                    self.returns.confirmed(ticket, id, returned);
                }
                Ok(_) => told.push((ticket, Ended::Nacked)),
                Err(why) => told.push((ticket, Ended::Failed(why))),
            }
        }
        self.returns.judge(|ticket, taken| told.push((ticket, if taken { Ended::Landed } else { Ended::Returned })));
        for (ticket, ended) in told {
            self.tell(ticket, ended);
        }
    }

    fn tell(&mut self, ticket: Ticket, ended: Ended) {
        let Some(until) = self.out.remove(&ticket) else {
            // It was told as unknown; this is its fate.
            let known = match ended {
                Ended::Landed => Known::Is(Fate::Landed),
                Ended::Returned => Known::Is(Fate::Never),
                Ended::Nacked => Known::Is(Fate::Unknown),
                Ended::Failed(why) => self.gone(&why),
            };
            return self.shared.fates.set(ticket, known);
        };
        self.by_time.remove(&(until, ticket));
        let outcome = match ended {
            Ended::Landed => Ok(None),
            Ended::Returned => Err(error::unroutable(&self.shared.channel)),
            // Several groups may have a queue in it, and one of them may have taken it.
            Ended::Nacked => {
                self.shared.fates.set(ticket, Known::Is(Fate::Unknown));
                Err(error::unknown("the broker did not take it into every queue"))
            }
            Ended::Failed(why) => {
                let gone = self.gone(&why);
                self.shared.fates.set(ticket, gone);
                Err(error::unknown("the connection ended before the broker confirmed it")
                    .caused_by(error::of(why, "send")))
            }
        };
        self.shared.sent.push(Sent { ticket, outcome });
    }

    /// What has to be waited for after a failure. The broker reads nothing more of an AMQP channel that it has closed, so then it is nothing: the connection lives on, and its mark with it.
    fn gone(&self, why: &lapin::Error) -> Known {
        let link = self.on.as_ref().map(|(link, _)| link);
        let mark = link.filter(|link| link.is_broken() || !error::is_of_channel(why)).and_then(|link| link.mark());
        Known::Gone(mark.map(str::to_owned))
    }

    /// Tells those whose time is over.
    fn expire(&mut self) {
        let now = now();
        while let Some((until, ticket)) = self.by_time.first().copied().filter(|(until, _)| *until <= now) {
            self.by_time.remove(&(until, ticket));
            self.out.remove(&ticket);
            self.shared.fates.set(ticket, Known::Waiting);
            let outcome = Err(error::unknown("the broker did not confirm it in time"));
            self.shared.sent.push(Sent { ticket, outcome });
        }
        let blocked = self.on.as_ref().is_some_and(|(link, _)| link.is_blocked());
        self.waiting.retain(|run| {
            let late = run.until <= now;
            if late {
                let why = if blocked { error::blocked() } else { error::too_late() };
                self.shared.sent.push(Sent { ticket: run.ticket, outcome: Err(why) });
            }
            !late
        });
    }

    /// The connection or the channel ended: what left has no answer any more.
    fn broke(&mut self) {
        let Some((link, _)) = self.on.take() else { return };
        let mark = link.is_broken().then(|| link.mark().map(str::to_owned)).flatten();
        self.confirms.clear();
        self.returns = Returns::default();
        self.by_time.clear();
        for (ticket, _) in self.out.drain() {
            self.shared.fates.set(ticket, Known::Gone(mark.clone()));
            let outcome = Err(error::unknown("the connection ended before the broker confirmed it"));
            self.shared.sent.push(Sent { ticket, outcome });
        }
        for known in self.shared.fates.of.lock().values_mut().filter(|known| matches!(known, Known::Waiting)) {
            *known = Known::Gone(mark.clone());
        }
        self.shared.fates.moved.notify_waiters();
    }
}

enum Ended {
    Landed,
    Returned,
    Nacked,
    Failed(lapin::Error),
}

/// Which confirmed messages were returned. The client library hands each returned message out with some confirm that it gets afterwards, not always with its own; but the
/// broker sends a return before the confirm of the same message, so that a confirm without one, or all returns being accounted for, tells.
#[derive(Debug, Default)]
struct Returns {
    /// Returned, and their own confirms not seen yet.
    returned: Set<MessageId>,
    /// Confirmed in this round.
    fresh: Vec<(Ticket, MessageId, bool)>,
    /// Confirmed with somebody else's return: its own may be on another confirm.
    held: Vec<(Ticket, MessageId)>,
}

impl Returns {
    /// A confirm, with the id of the message that it brought back: the inner `None` is one that is not ours.
    fn confirmed(&mut self, ticket: Ticket, id: MessageId, returned: Option<Option<MessageId>>) {
        let strange = returned.is_some() && returned != Some(Some(id));
        self.returned.extend(returned.flatten());
        self.fresh.push((ticket, id, strange));
    }

    /// Tells of each that is certain whether a queue took it.
    fn judge(&mut self, mut tell: impl FnMut(Ticket, bool)) {
        for (ticket, id, strange) in std::mem::take(&mut self.fresh) {
            if self.returned.remove(&id) {
                tell(ticket, false);
            } else if strange {
                self.held.push((ticket, id));
            } else {
                tell(ticket, true);
            }
        }
        let mut held = std::mem::take(&mut self.held);
        held.retain(|(ticket, id)| {
            let back = self.returned.remove(id);
            if back {
                tell(*ticket, false);
            }
            !back
        });
        if self.returned.is_empty() {
            held.drain(..).for_each(|(ticket, _)| tell(ticket, true));
        }
        self.held = held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the client library does it: returns wait in a queue, and each confirm that is resolved takes the first of them.
    #[test]
    fn a_returned_message_is_found_whichever_confirm_brings_it() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let all = random.usize(1..30);
            let unroutable: Vec<bool> = (0..all).map(|_| random.u8(..) < 80).collect();
            let (mut unreturned, mut unconfirmed): (Vec<usize>, Vec<usize>) =
                ((0..all).filter(|n| unroutable[*n]).collect(), (0..all).collect());
            let mut queue: VecDeque<usize> = VecDeque::new();
            let mut returns = Returns::default();
            let mut told: Map<u64, bool> = Map::default();
            while !unconfirmed.is_empty() {
                // Returns come in, then confirms of what is routable or has been returned, in any order.
                for _ in 0..random.usize(0..4) {
                    if !unreturned.is_empty() {
                        queue.push_back(unreturned.remove(0));
                    }
                }
                for _ in 0..random.usize(1..5) {
                    let ready: Vec<usize> =
                        (0..unconfirmed.len()).filter(|i| !unreturned.contains(&unconfirmed[*i])).collect();
                    let Some(at) = ready.get(random.usize(..ready.len().max(1))) else { break };
                    let n = unconfirmed.remove(*at);
                    let id = |n: usize| MessageId::from_u128(n as u128);
                    returns.confirmed(Ticket(n as u64), id(n), queue.pop_front().map(|n| Some(id(n))));
                    if random.bool() {
                        break;
                    }
                }
                returns.judge(|ticket, taken| assert!(told.insert(ticket.0, taken).is_none(), "seed {seed}"));
            }
            for (n, unroutable) in unroutable.iter().enumerate() {
                assert_eq!(told.get(&(n as u64)), Some(&!unroutable), "seed {seed}: message {n} of {all}");
            }
        }
    }
}
