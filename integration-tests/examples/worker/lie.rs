//! Broken settle paths, on purpose: whoever judges a run must see them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::{
    Above, Answer, Backend, Command, ConsumerSpec, DeadLetterStore, Event, Grant, Limits, Place, SessionState, Sink,
    Source, Ticket,
};
use convoy_core::{Finding, Guarantees, Moment, Result, SessionId, Topology};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How late the broker gets what was answered long ago.
const LATE: Duration = Duration::from_millis(1500);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A settlement is answered before the broker has it: what is lost on the way comes again, though it was known to be settled.
    Early,
    /// Everything that was delivered is settled with the first that is done: what was not handled is gone with its process.
    Ahead,
}

impl Lie {
    pub(crate) fn named(name: &str) -> std::result::Result<Self, String> {
        match name {
            "early" => Ok(Self::Early),
            "ahead" => Ok(Self::Ahead),
            _ => Err(format!("there is no lie `{name}`: say `early` or `ahead`")),
        }
    }
}

/// A backend whose consumers settle so.
#[derive(Debug)]
pub(crate) struct Hasty<B> {
    inner: B,
    lie: Lie,
}

impl<B> Hasty<B> {
    pub(crate) fn new(inner: B, lie: Lie) -> Self {
        Self { inner, lie }
    }
}

#[async_trait]
impl<B: Backend> Backend for Hasty<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn provision(&self, topology: &Topology) -> Result<()> {
        self.inner.provision(topology).await
    }

    async fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        self.inner.check(topology).await
    }

    async fn consumer(&self, spec: &ConsumerSpec) -> Result<Arc<dyn Source>> {
        let inner = self.inner.consumer(spec).await?;
        Ok(Arc::new(HastySource { inner, lie: self.lie, state: Mutex::default(), notify: Notify::new() }))
    }

    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>> {
        self.inner.producer(channel).await
    }

    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>> {
        self.inner.dead_letters(channel, group).await
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.inner.close(until).await
    }
}

#[derive(Debug)]
struct HastySource {
    inner: Arc<dyn Source>,
    lie: Lie,
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Answers that are made up.
    made_up: Vec<Event>,
    /// What the broker has not got yet.
    late: Vec<(Instant, Grant, Command)>,
    /// Whose true answers nobody is to see.
    answered: HashSet<(Grant, Ticket)>,
}

impl HastySource {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next one that is late is to go.
    fn due(&self) -> Option<Instant> {
        self.state().late.iter().map(|(at, ..)| *at).min()
    }

    fn send(&self, is_due: impl Fn(Instant, Grant) -> bool) {
        let mut due: Vec<Command> = {
            let mut state = self.state();
            state.late.extract_if(.., |(at, grant, _)| is_due(*at, *grant)).map(|(.., command)| command).collect()
        };
        self.inner.submit(&mut due);
    }
}

#[async_trait]
impl Source for HastySource {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        loop {
            let made_up = std::mem::take(&mut self.state().made_up);
            if !made_up.is_empty() {
                into.extend(made_up);
                return Ok(());
            }
            let mut told = Vec::new();
            let due = self.due();
            tokio::select! {
                () = self.notify.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.send(|at, _| at <= Instant::now()),
                next = self.inner.next(&mut told) => {
                    next?;
                    let mut state = self.state();
                    into.extend(told.into_iter().filter(|event| {
                        !matches!(event, Event::Settled { grant, ticket, .. } if state.answered.remove(&(*grant, *ticket)))
                    }));
                    return Ok(());
                }
            }
        }
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        for command in commands.drain(..) {
            match command {
                Command::Settle { grant, ticket, mut progress } if self.lie == Lie::Ahead => {
                    (progress.watermark, progress.above) = (progress.end, Above::Nothing);
                    self.inner.submit(&mut vec![Command::Settle { grant, ticket, progress }]);
                }
                Command::Settle { grant, ticket, progress } => {
                    let mut state = self.state();
                    state.made_up.push(Event::Settled { grant, ticket, answer: Answer::Ok });
                    state.answered.insert((grant, ticket));
                    state.late.push((Instant::now() + LATE, grant, Command::Settle { grant, ticket, progress }));
                    drop(state);
                    self.notify.notify_one();
                }
                Command::Release { grant } => {
                    self.send(|_, of| of == grant);
                    self.inner.submit(&mut vec![Command::Release { grant }]);
                }
                other => self.inner.submit(&mut vec![other]),
            }
        }
    }

    fn place(&self, session: &SessionId) -> Place {
        self.inner.place(session)
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn session_state(&self) -> Option<&dyn SessionState> {
        self.inner.session_state()
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.inner.close(until).await
    }
}
