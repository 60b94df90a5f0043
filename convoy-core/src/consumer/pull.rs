//! The pull side: sessions accepted one by one, each with a loop of the caller's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::delivery::Delivery;
use super::payload::Payload;
use super::received::Context;
use super::run_token::RunToken;
use super::snapshot::{Report, Snapshot};
use crate::backend::{Command, Grant, Loss, Place, SessionState};
use crate::engine::{ClaimId, End, Next, NotClaimed};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::runtime::{ClaimCell, Driver, instant, now};
use crate::session::{IntoSessionId, SessionId};
use crate::time::Moment;

/// A consumer to pull sessions from. Several tasks may accept from one at the same time.
#[derive(Debug)]
pub struct Consumer {
    driver: Arc<Driver>,
}

/// A session held by a pull loop: nobody else handles its messages meanwhile.
///
/// Dropping it gives it back; what was completed is settled, what was not is offered again.
#[derive(Debug)]
pub struct Session {
    pub(super) driver: Arc<Driver>,
    pub(super) shard: u32,
    pub(super) claim: ClaimId,
    pub(super) cell: Arc<ClaimCell>,
    id: SessionId,
    grant: Grant,
}

/// While a lane is on its way here, it is looked again so often whether it still is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Consumer {
    pub(super) fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    /// Accepts the session that waited longest with a message; `None` when none came within `limit`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], or what ended the consumer.
    ///
    /// # Cancel safety
    /// Cancel safe: a session won meanwhile is left to the next caller, or given back.
    pub async fn accept_next(&self, limit: Duration) -> Result<Option<Session>> {
        let until = now() + limit;
        let _waits = self.driver.wait_for(None);
        loop {
            let ready = self.driver.pull.ready.notified();
            self.check_open()?;
            if let Some(session) = self.claim_any() {
                return Ok(Some(session));
            }
            tokio::select! {
                biased;
                () = ready => {}
                () = self.driver.failed() => {}
                () = tokio::time::sleep_until(instant(until)) => return Ok(None),
            }
        }
    }

    /// Accepts a session by its id, with or without a message, within `limit`.
    ///
    /// On a broker of lanes this works for sessions whose lane this process owns, or is about to own.
    ///
    /// # Errors
    /// [`ErrorKind::NotOwner`] when somebody else holds it until the limit, or its lane is not owned here; [`ErrorKind::LaneBlocked`] when its lane's buffer is
    /// full of other sessions; [`ErrorKind::Timeout`], [`ErrorKind::Closed`].
    ///
    /// # Cancel safety
    /// Cancel safe: a session won meanwhile is given back.
    pub async fn accept(&self, id: impl IntoSessionId, limit: Duration) -> Result<Session> {
        let id = id.into_session_id()?;
        let until = now() + limit;
        let place = self.driver.source.place(&id);
        let waits = self.driver.wait_for(Some(&id));
        let mut asked = false;
        let session = loop {
            let changed = self.driver.pull.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.check_open()?;
            match self.claim_named(&place, &id) {
                Ok(session) => break session,
                Err(NotClaimed::NotHeld) if matches!(place, Place::Session(_)) => {
                    if !std::mem::replace(&mut asked, true) {
                        let command = Command::AcceptNamed { session: id.clone(), until };
                        self.driver.source.submit(&mut vec![command]);
                    }
                }
                Err(NotClaimed::NotHeld) if self.driver.source.awaits(&place) && now() < until => {
                    // What is on its way may go elsewhere in the end, and nobody says so.
                    let look = until.min(now() + LOOK_AGAIN);
                    let _ = tokio::time::timeout_at(instant(look), changed).await;
                    continue;
                }
                Err(NotClaimed::NotHeld) => return Err(accept_error(ErrorKind::NotOwner, &id)),
                Err(NotClaimed::LaneBlocked) => return Err(accept_error(ErrorKind::LaneBlocked, &id)),
                // It is here: should it go again, it is asked for anew.
                Err(NotClaimed::NotYet | NotClaimed::Taken) => asked = false,
            }
            match self.driver.pull.take_denied(&id) {
                // The answer to an earlier call whose time was over.
                Some(error) if error.kind() == ErrorKind::Timeout && now() < until => {
                    asked = false;
                    continue;
                }
                Some(error) => return Err(error),
                None => {}
            }
            if now() >= until {
                let kind = if asked { ErrorKind::Timeout } else { ErrorKind::NotOwner };
                return Err(accept_error(kind, &id).with_outcome(Outcome::NotApplied));
            }
            let _ = tokio::time::timeout_at(instant(until), changed).await;
        };
        drop(waits);
        Ok(session)
    }

    fn check_open(&self) -> Result<()> {
        if let Some(error) = self.driver.take_failure() {
            return Err(error);
        }
        if self.driver.has_failed() || self.driver.is_closed() || self.driver.is_leaving() {
            return Err(Error::new(ErrorKind::Closed, "accept"));
        }
        Ok(())
    }

    fn claim_any(&self) -> Option<Session> {
        let shards = &self.driver.shards;
        // The start of the round moves on, so that no shard is always asked first.
        let first = usize::try_from(now().as_nanos() >> 10).unwrap_or_default() % shards.len();
        let session = (0..shards.len()).map(|i| (first + i) % shards.len()).find_map(|index| {
            shards[index].with(&self.driver, |core, now| {
                let (claim, id) = core.engine.claim_any(now)?;
                Some(self.session(core, claim, id, index))
            })
        });
        if session.is_some() {
            self.driver.session_is_out(true);
        }
        session
    }

    fn claim_named(&self, place: &Place, id: &SessionId) -> Result<Session, NotClaimed> {
        let index = place.stable_hash() as usize % self.driver.shards.len();
        let session = self.driver.shards[index].with(&self.driver, |core, now| {
            let (claim, id) = core.engine.claim_named(now, place, id)?;
            Ok(self.session(core, claim, id, index))
        });
        if session.is_ok() {
            self.driver.session_is_out(true);
        }
        session
    }

    fn session(&self, core: &mut crate::runtime::Core, claim: ClaimId, id: SessionId, index: usize) -> Session {
        let cell = Arc::new(ClaimCell::default());
        core.claims.insert(claim, Arc::clone(&cell));
        let grant = core.engine.grant_of(claim).unwrap_or_else(|| Grant::new(0, &Place::Lane(0)));
        let shard = u32::try_from(index).unwrap_or_default();
        Session { driver: Arc::clone(&self.driver), shard, claim, cell, id, grant }
    }

    /// Whether it is connected and takes sessions.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.snapshot().ready
    }

    /// What it is doing now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.driver)
    }

    /// Accepts nothing more, waits for sessions that are out, settles and closes.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    ///
    /// # Cancel safety
    /// Dropping it makes the end an unclean one.
    pub async fn close(self, limit: Duration) -> Result<Report> {
        let drained = self.driver.drain(limit).await?;
        Ok(Report { drained, last: Snapshot { ready: false, ..self.snapshot() } })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.driver.abandon();
    }
}

impl Session {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whether it is still held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.cell.lost().is_none() && !self.driver.has_failed()
    }

    /// Waits until the right to the session is gone, or the whole consumer is.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn lost(&self) {
        tokio::select! {
            () = self.cell.gone.cancelled() => {}
            () = self.driver.failed() => {}
        }
    }

    /// The next message of the session; `None` when none came within `limit`, or none can come because its lane's buffer is full of other sessions.
    ///
    /// The delivery borrows the session, so that there is one at a time.
    ///
    /// # Errors
    /// [`ErrorKind::LockLost`] when the right is gone; [`ErrorKind::Codec`] when the body cannot be read as `T`: the message stays the head, to be taken as
    /// [`Bytes`] and dead-lettered.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is taken when it is dropped.
    pub async fn next<T: Payload>(&mut self, limit: Duration) -> Result<Option<Delivery<'_, T>>> {
        let until = now() + limit;
        let start = loop {
            match self.with(|core, now, claim| {
                let next = core.engine.next(now, claim);
                if let Next::Start(start) = &next {
                    core.run_starts(start.run, &Arc::new(RunToken::default()));
                }
                next
            }) {
                Next::Start(start) => break start,
                Next::Lost => return Err(self.lost_error("next")),
                Next::Blocked => return Ok(None),
                Next::Wait => {}
            }
            if tokio::time::timeout_at(instant(until), self.cell.wake.notified()).await.is_err() {
                return Ok(None);
            }
        };
        let run = start.run;
        let token = self.with(|core, _, _| core.token_of(run)).unwrap_or_default();
        match Context::new(*start, token, self.driver.limits.fence, self.driver.undecodable()).decode() {
            Ok(received) => Ok(Some(Delivery::new(self, run, received))),
            Err(error) => {
                self.end(run, End::Returned);
                Err(error)
            }
        }
    }

    /// Waits until the broker is known to have everything that was completed in this session.
    ///
    /// # Errors
    /// [`ErrorKind::LockLost`] when the right ended before; what was completed may come again then. [`ErrorKind::Timeout`] when no answer came within `limit`.
    ///
    /// # Cancel safety
    /// Cancel safe: what was asked for goes on.
    pub async fn flush(&mut self, limit: Duration) -> Result<()> {
        self.flush_by(now() + limit).await
    }

    pub(super) async fn flush_by(&self, until: Moment) -> Result<()> {
        // What answers a flush that was given up says nothing of what was completed since.
        self.cell.take_flushed();
        if !self.with(|core, now, claim| core.engine.flush(now, claim)) {
            return Err(self.lost_error("flush").with_outcome(Outcome::Unknown));
        }
        loop {
            if self.cell.take_flushed() {
                return Ok(());
            }
            if !self.is_held() {
                return Err(self.lost_error("flush").with_outcome(Outcome::Unknown));
            }
            if tokio::time::timeout_at(instant(until), self.cell.wake.notified()).await.is_err() {
                return Err(Error::new(ErrorKind::Timeout, "flush").with("session", &self.id));
            }
        }
    }

    /// Waits until everything completed is known to the broker, then gives the session back.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the session is given back all the same.
    ///
    /// # Cancel safety
    /// Dropping it gives the session back.
    pub async fn release(self, limit: Duration) -> Result<()> {
        self.flush_by(now() + limit).await
    }

    /// The state that this session keeps at its broker.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the broker holds none, [`ErrorKind::LockLost`] when the right is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn state(&self) -> Result<Option<Bytes>> {
        self.state_store()?.state(self.grant, &self.id).await
    }

    /// Replaces or removes the state that this session keeps at its broker. Refused when the right is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the broker holds none, [`ErrorKind::LockLost`] when the right is gone, [`ErrorKind::TooLarge`].
    ///
    /// # Cancel safety
    /// Whether it was applied is unknown when it is dropped.
    pub async fn set_state(&self, state: Option<Bytes>) -> Result<()> {
        self.state_store()?.set_state(self.grant, &self.id, state).await
    }

    fn state_store(&self) -> Result<&dyn SessionState> {
        let unsupported =
            || Error::new(ErrorKind::Unsupported, "session state").because("this broker holds no session state");
        if !self.is_held() {
            return Err(self.lost_error("session state"));
        }
        self.driver.source.session_state().ok_or_else(unsupported)
    }

    pub(super) fn end(&self, run: crate::engine::RunId, end: End) -> bool {
        self.with(|core, now, _| {
            core.run_ended(run);
            core.engine.ended(now, run, end, fastrand::u64(..))
        })
    }

    pub(super) fn lost_error(&self, operation: &'static str) -> Error {
        let why = match self.cell.lost() {
            Some(Loss::Expired) => "it ran out",
            Some(Loss::Revoked) => "the broker took it away",
            Some(Loss::Disconnected) => "the connection ended",
            Some(Loss::Refused) => "a settlement or renewal was refused",
            Some(Loss::Unknown) => "the answer to a settlement was lost",
            _ => "it is not held any more",
        };
        Error::new(ErrorKind::LockLost, operation)
            .because(format!("the right to the session is gone: {why}"))
            .with("session", &self.id)
    }

    fn with<R>(&self, act: impl FnOnce(&mut crate::runtime::Core, Moment, ClaimId) -> R) -> R {
        let claim = self.claim;
        self.driver.shards[self.shard as usize].with(&self.driver, |core, now| act(core, now, claim))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.with(|core, now, claim| {
            core.claims.remove(&claim);
            core.engine.unclaim(now, claim);
        });
        self.driver.session_is_out(false);
    }
}

fn accept_error(kind: ErrorKind, id: &SessionId) -> Error {
    Error::new(kind, "accept").with("session", id)
}
