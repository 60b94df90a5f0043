//! A consumer: one connection at a time, a task a lane, and what moves lanes between members.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::{Command, Event, Limits, Place, Source};
use convoy_core::runtime::{instant, now};
use convoy_core::{Moment, Result, SessionId};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::config::Options;
use crate::connection::{Link, Pause, Publishing};
use crate::dead::Copies;
use crate::entry::Entry;
use crate::error;
use crate::lane::{Ask, Ended, Lane, Shared};
use crate::members::{self, Members};
use crate::names::{self, Names};
use crate::outbox::Outbox;
use crate::spread::Spread;

/// After so many refusals of the credentials in a row the consumer ends: somebody has to act.
const REFUSALS: u32 = 5;
/// So long a member waits for its registrations before it says that it is there.
pub(crate) const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(5);

/// A consumer of one group.
#[derive(Debug)]
pub(crate) struct RabbitSource {
    shared: Arc<Shared>,
    control: Arc<Control>,
    /// Whoever drops the source ends its task.
    stop: watch::Sender<Stop>,
    ended: watch::Receiver<bool>,
}

/// How to reach the lanes of the connection that there is.
#[derive(Debug, Default)]
struct Control {
    lanes: Mutex<HashMap<u32, UnboundedSender<Ask>, foldhash::fast::RandomState>>,
    /// On which lane each right is, from the first command on.
    leaving: AtomicBool,
    subscribed: AtomicU32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stop(Option<Moment>);

impl RabbitSource {
    /// Starts on a connection that was made and checked.
    pub(crate) fn start(options: &Options, names: Names, publishing: Arc<Publishing>, link: Arc<Link>) -> Self {
        let copies = Arc::new(Copies::new(Arc::clone(&publishing), names.dead(), options.answer_limit));
        let (events, last_epoch) = (Outbox::new(), AtomicU64::new(0));
        let each = |is| (0..names.lanes).map(|_| AtomicBool::new(is)).collect();
        let (held, expected) = (each(false), each(true));
        let publishing_too = Arc::clone(&publishing);
        let shared = Arc::new(Shared {
            options: options.clone(),
            names,
            events,
            copies,
            publishing: publishing_too,
            last_epoch,
            held,
            expected,
        });
        let control = Arc::new(Control::default());
        let (stop, stopped) = watch::channel(Stop::default());
        let (tell_end, ended) = watch::channel(false);
        let run = Run { shared: Arc::clone(&shared), control: Arc::clone(&control), publishing, stopped };
        tokio::spawn(async move {
            run.run(link).await;
            tell_end.send_replace(true);
        });
        Self { shared, control, stop, ended }
    }
}

#[async_trait]
impl Source for RabbitSource {
    fn limits(&self) -> Limits {
        self.shared.options.limits()
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        self.shared.events.take(into, || error::closed("consume")).await
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        let lanes = self.control.lanes.lock();
        for command in commands.drain(..) {
            let grant = match &command {
                Command::Settle { grant, .. }
                | Command::SetAside { grant, .. }
                | Command::Renew { grant }
                | Command::Read { grant, .. }
                | Command::Release { grant }
                | Command::Surrender { grant } => *grant,
                Command::Leave => {
                    self.control.leaving.store(true, Ordering::Release);
                    for lane in lanes.values() {
                        lane.send(Ask::Do(Command::Leave)).ok();
                    }
                    continue;
                }
                Command::AcceptNamed { session, .. } => {
                    let (session, error) = (session.clone(), error::named_on_lanes());
                    self.shared.events.push(Event::Denied { session, error });
                    continue;
                }
                _ => continue,
            };
            // The shard of a grant is the stable hash of its place, which is the lane itself. Of a lane that is gone nothing is left to do: its loss was told.
            if let Some(lane) = lanes.get(&grant.shard()) {
                lane.send(Ask::Do(command)).ok();
            }
        }
    }

    fn place(&self, session: &SessionId) -> Place {
        match self.shared.names.entry {
            Entry::Slots => Place::Lane(names::lane(session, self.shared.names.lanes)),
            // Only the broker knows: nobody is asked for it by name.
            _ => Place::Session(session.clone()),
        }
    }

    fn awaits(&self, place: &Place) -> bool {
        let Place::Lane(lane) = place else { return false };
        let is = |of: &[AtomicBool]| of.get(*lane as usize).is_some_and(|is| is.load(Ordering::Relaxed));
        is(&self.shared.expected) && !is(&self.shared.held)
    }

    fn is_ready(&self) -> bool {
        self.control.subscribed.load(Ordering::Acquire) == self.shared.names.lanes
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.stop.send_if_modified(|stop| {
            let first = stop.0.is_none();
            if first {
                *stop = Stop(Some(until));
            }
            first
        });
        let mut ended = self.ended.clone();
        let waited = timeout_at(instant(until), ended.wait_for(|ended| *ended)).await;
        self.shared.events.close();
        match waited {
            Ok(_) => Ok(()),
            Err(_) => Err(error::no_answer("close")),
        }
    }
}

/// The task of a consumer.
struct Run {
    shared: Arc<Shared>,
    control: Arc<Control>,
    publishing: Arc<Publishing>,
    stopped: watch::Receiver<Stop>,
}

/// How the time on one connection ended.
enum Over {
    /// It broke.
    Broken,
    /// The source was closed or dropped.
    Stopped,
    /// The consumer cannot go on.
    Failed(convoy_core::Error),
}

impl Run {
    async fn run(mut self, first: Arc<Link>) {
        let me = uuid::Uuid::now_v7().as_u128();
        let mut spread = Spread::new(me, self.shared.names.lanes);
        let mut link = Some(first);
        loop {
            let on = match link.take() {
                Some(link) => link,
                None => match self.reconnect().await {
                    Ok(Some(link)) => link,
                    Ok(None) => break,
                    Err(why) => {
                        self.shared.events.fail(why);
                        break;
                    }
                },
            };
            let over = self.on(&on, me, &mut spread).await;
            self.control.lanes.lock().clear();
            self.control.subscribed.store(0, Ordering::Release);
            spread.forget();
            self.shared.expected.iter().for_each(|expected| expected.store(true, Ordering::Relaxed));
            let until = self.stopped.borrow().0.unwrap_or_else(|| now() + self.shared.options.answer_limit);
            match over {
                Over::Broken => on.bury().await,
                Over::Stopped => {
                    on.close(until).await.ok();
                    on.bury().await;
                    break;
                }
                Over::Failed(why) => {
                    on.close(until).await.ok();
                    on.bury().await;
                    self.shared.events.fail(why);
                    break;
                }
            }
        }
        self.shared.events.close();
    }

    /// Connects again, with growing pauses, until it works or nobody wants it any more.
    async fn reconnect(&mut self) -> Result<Option<Arc<Link>>> {
        let (mut pause, mut refusals) = (Pause::new(), 0);
        loop {
            tokio::select! {
                _ = self.stopped.wait_for(|stop| stop.0.is_some()) => return Ok(None),
                () = sleep(pause.next()) => {}
            }
            let opened = tokio::select! {
                _ = self.stopped.wait_for(|stop| stop.0.is_some()) => return Ok(None),
                opened = Link::open(&self.shared.options, "consumer") => opened,
            };
            match opened {
                Ok(link) => return Ok(Some(link)),
                Err(why) if error::is_final(&why) => {
                    refusals += 1;
                    tracing::warn!(error = ?why, refusals, "the broker does not let this consumer in");
                    if refusals >= REFUSALS {
                        return Err(why);
                    }
                }
                Err(why) => tracing::info!(error = ?why, "not connected yet"),
            }
        }
    }

    /// Everything that happens on one connection.
    async fn on(&mut self, link: &Arc<Link>, me: u128, spread: &mut Spread) -> Over {
        let mut lanes: JoinSet<Ended> = JoinSet::new();
        self.start_lanes(link, &mut lanes);
        let exchange = self.shared.names.members();
        let (control, publishing) = (Arc::clone(&self.control), Arc::clone(&self.publishing));
        let subscribed = Arc::clone(&self.control);
        let wanted = self.shared.names.lanes;
        let ask = move |of: Vec<u32>, what: fn() -> Ask| {
            let lanes = control.lanes.lock();
            for lane in of.iter().filter_map(|lane| lanes.get(lane)) {
                lane.send(what()).ok();
            }
        };
        let members_of = exchange.clone();
        let expects = Arc::clone(&self.shared);
        let seen = move |spread: &Spread| {
            for (lane, expected) in (0..).zip(&expects.expected) {
                expected.store(spread.expects(lane), Ordering::Relaxed);
            }
        };
        let held = Arc::clone(&self.shared);
        let has = move |lane: u32| held.held.get(lane as usize).is_some_and(|held| held.load(Ordering::Relaxed));
        let membership = async {
            // The others step behind whoever is registered: this one has to be, before they hear of it.
            let give_up = now() + SUBSCRIBE_LIMIT;
            while subscribed.subscribed.load(Ordering::Acquire) < wanted && now() < give_up {
                sleep(Duration::from_millis(10)).await;
            }
            // Without the others balance is lost, and nothing else.
            let mut pause = Pause::new();
            loop {
                match Members::listen(me, link, members_of.clone(), Arc::clone(&publishing)).await {
                    Ok(members) => members.run(spread, &has, &seen, &ask).await,
                    Err(why) => tracing::warn!(error = ?why, "this consumer does not know of the others of its group"),
                }
                sleep(pause.next()).await;
            }
        };
        tokio::pin!(membership);
        let over = loop {
            tokio::select! {
                biased;
                _ = self.stopped.wait_for(|stop| stop.0.is_some()) => break Over::Stopped,
                () = link.broken() => break Over::Broken,
                ended = lanes.join_next(), if !lanes.is_empty() => match ended {
                    Some(Ok(Ended::Failed(why))) => break Over::Failed(why),
                    Some(Ok(Ended::Left)) => {}
                    _ => break Over::Broken,
                },
                () = &mut membership => {}
            }
        };
        if matches!(over, Over::Stopped) {
            let until = self.stopped.borrow().0.unwrap_or_else(now);
            self.control.lanes.lock().clear();
            let goodbye = members::say_goodbye(Arc::clone(&self.publishing), exchange, me);
            timeout_at(instant(until), goodbye).await.ok();
        }
        // Each lane says that its right is gone, once it sees that the connection is.
        if matches!(over, Over::Broken) {
            // A lane may have seen it where the connection itself has not.
            link.give_up();
            while let Some(ended) = lanes.join_next().await {
                if let Ok(Ended::Failed(why)) = ended {
                    return Over::Failed(why);
                }
            }
        } else {
            let until = self.stopped.borrow().0.unwrap_or_else(|| now() + self.shared.options.answer_limit);
            self.control.lanes.lock().clear();
            let all = async { while lanes.join_next().await.is_some() {} };
            timeout_at(instant(until), all).await.ok();
        }
        over
    }

    fn start_lanes(&self, link: &Arc<Link>, tasks: &mut JoinSet<Ended>) {
        let mut lanes = self.control.lanes.lock();
        lanes.clear();
        for lane in 0..self.shared.names.lanes {
            let (ask, asks) = unbounded_channel();
            lanes.insert(lane, ask);
            let leaving = self.control.leaving.load(Ordering::Acquire);
            let task = Lane::new(lane, Arc::clone(link), Arc::clone(&self.shared), asks, leaving);
            let control = Arc::clone(&self.control);
            tasks.spawn(task.run(move || {
                control.subscribed.fetch_add(1, Ordering::AcqRel);
            }));
        }
    }
}
