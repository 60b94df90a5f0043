//! Messages of no meaning by which a lane finds out what the broker does not say: whether it is this member's, and whether its bindings are there.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::runtime::{instant, now};
use convoy_core::{ErrorKind, Moment, Result};
use futures_util::future::BoxFuture;
use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use tokio::time::sleep_until;
use uuid::Uuid;

use crate::connection::{Link, Publishing};
use crate::entry::Entry;
use crate::envelope::{self, Asks};
use crate::lane::Shared;
use crate::{error, names, topology};

const CHECK: &str = "check bindings";

/// So long a binding's probe is kept in the queues of other groups that have no consumer. One that took longer to come through a lane proves nothing.
const KEPT: Duration = Duration::from_secs(60);

/// An idle lane does not show whose it is: the broker tells a consumer that it is the active one by delivering to it. So the member that should have it puts
/// a message of no meaning into its queue, which whoever is active acknowledges at once. Lost probes are asked again.
pub(crate) async fn of_holder(publishing: Arc<Publishing>, queue: ShortString) {
    let sent = async {
        let link = publishing.link().await?;
        if link.is_blocked() {
            return Ok(());
        }
        let channel = link.channel("probe").await?;
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish("".into(), queue.clone(), options, b"", envelope::probe());
        link.ask("probe", published).await?;
        link.ask("probe", channel.close(200, "probed".into())).await
    };
    let sent: Result<()> = sent.await;
    if let Err(why) = sent {
        tracing::debug!(queue = queue.as_str(), error = ?why, "a lane was not probed");
    }
}

/// Whether a lane that is held still gets what is sent to it: one of its slots after the other, one at a time.
///
/// The broker lists no bindings, and returns a message only when *no* queue took it. So two probes go out: the first to the channel, by the slot; the second straight into the lane's
/// queue, behind it. A queue keeps their order: when the second comes without the first, the first was not put there, whatever other groups got.
#[derive(Default)]
pub(crate) struct Bindings {
    /// Nothing is checked without it.
    every: Option<Duration>,
    at: Moment,
    slots: Vec<u32>,
    turn: usize,
    asking: Option<BoxFuture<'static, Result<Answer>>>,
    /// The pair that is on its way.
    pair: Option<Pair>,
    /// A slot that does not lead to the lane.
    missing: Option<u32>,
    repairing: Option<BoxFuture<'static, Result<()>>>,
}

struct Pair {
    id: u128,
    slot: u32,
    asked_at: Moment,
    first_came: bool,
}

enum Answer {
    /// Both probes are on their way, or nothing can be said for the time being.
    Wait(bool),
    /// No queue took the first, or the channel is gone.
    Unbound,
    /// This user may not publish to the channel.
    Forbidden,
}

impl Bindings {
    /// Those of a lane, from now on. Lanes take turns: none begins with the others.
    pub(crate) fn of(lane: u32, shared: &Shared) -> Self {
        // Without slots there is nothing that a probe could follow.
        let by_slots = shared.names.entry == Entry::Slots;
        let every = Some(shared.options.binding_check).filter(|every| by_slots && !every.is_zero());
        let at = every.map_or(Moment::NEVER, |every| now() + every.mul_f64(0.5 + fastrand::f64() / 2.0));
        let is_mine = |slot: &u32| names::lane_of_slot(*slot, shared.names.lanes) == lane;
        let slots: Vec<u32> = (0..names::SLOTS).filter(is_mine).collect();
        let turn = fastrand::usize(..slots.len().max(1));
        Self { every, at, slots, turn, ..Self::default() }
    }

    /// Begins the next check when its time has come.
    pub(crate) fn begin(&mut self, queue: &ShortString, shared: &Arc<Shared>) {
        let Some(every) = self.every.filter(|_| now() >= self.at) else { return };
        self.at = now() + every;
        self.forget_old();
        if self.asking.is_some() || self.pair.is_some() || self.repairing.is_some() {
            return;
        }
        self.turn = (self.turn + 1) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(self.turn).copied() else { return };
        let id = Uuid::now_v7().as_u128();
        self.pair = Some(Pair { id, slot, asked_at: now(), first_came: false });
        self.asking = Some(Box::pin(ask(Arc::clone(shared), queue.clone(), slot, id)));
    }

    /// A pair whose second probe is gone from the queue, as after a purge, or so late that it proves nothing, must not be the last one.
    fn forget_old(&mut self) {
        if self.asking.is_none() {
            self.pair.take_if(|pair| now().since(pair.asked_at) >= KEPT);
        }
    }

    /// Waits for whatever comes next here; then [`begin`](Self::begin) may have something to do. An error is a repair that this user may not do. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<()> {
        if let Some(repairing) = &mut self.repairing {
            let repaired = repairing.await;
            self.repairing = None;
            return match repaired {
                Err(why) if why.kind() != ErrorKind::Unauthorized => {
                    // The next check finds it missing again.
                    tracing::warn!(error = ?why, "a binding could not be made again yet");
                    Ok(())
                }
                repaired => repaired,
            };
        }
        let Some(asking) = &mut self.asking else {
            sleep_until(instant(self.at)).await;
            return Ok(());
        };
        let answer = asking.await;
        self.asking = None;
        match answer {
            Ok(Answer::Wait(true)) => {}
            Ok(Answer::Wait(false)) => self.pair = None,
            Ok(Answer::Unbound) => {
                self.missing = self.pair.take().map(|pair| pair.slot);
            }
            Ok(Answer::Forbidden) => {
                tracing::warn!(
                    "bindings are not checked: this user lacks the permission `write` on the channel's exchange"
                );
                *self = Self { at: Moment::NEVER, ..Self::default() };
            }
            Err(why) => {
                tracing::debug!(error = ?why, "a binding was not checked");
                self.pair = None;
            }
        }
        Ok(())
    }

    /// A probe of a binding came.
    pub(crate) fn heard(&mut self, asks: Asks) {
        let Some(pair) = self.pair.as_mut().filter(|pair| pair.id == asks.id) else { return };
        if !asks.behind {
            pair.first_came = true;
            return;
        }
        let Some(pair) = self.pair.take() else { return };
        if !pair.first_came && now().since(pair.asked_at) < KEPT / 2 {
            self.missing = Some(pair.slot);
        }
    }

    /// The slot that was found missing, if one was.
    pub(crate) fn missing(&mut self) -> Option<u32> {
        self.missing.take()
    }

    /// Binds the slots of the lane again, beside everything else.
    pub(crate) fn repair(&mut self, link: &Arc<Link>, shared: &Arc<Shared>) {
        let (link, shared, slots) = (Arc::clone(link), Arc::clone(shared), self.slots.clone());
        self.repairing = Some(Box::pin(async move { topology::bind_again(&link, &shared.names, &slots).await }));
    }
}

async fn ask(shared: Arc<Shared>, queue: ShortString, slot: u32, id: u128) -> Result<Answer> {
    let link = shared.publishing.link().await?;
    if link.is_blocked() {
        return Ok(Answer::Wait(false));
    }
    let channel = link.channel(CHECK).await?;
    link.ask(CHECK, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (names::channel(&shared.names.channel)?, names::short(slot.to_string()));
    let first = envelope::probe_of_binding(Asks { id, behind: false })
        .with_expiration(names::short(KEPT.as_millis().to_string()));
    let sent = async { channel.basic_publish(exchange, key, mandatory, b"", first).await?.await };
    match link.ask_raw(CHECK, sent).await? {
        Ok(Confirmation::Ack(None)) => {}
        Ok(Confirmation::Ack(Some(_))) => {
            link.ask(CHECK, channel.close(200, "checked".into())).await?;
            return Ok(Answer::Unbound);
        }
        // A queue of some group did not take it.
        Ok(_) => return Ok(Answer::Wait(false)),
        Err(why) if error::is_missing(&why) => return Ok(Answer::Unbound),
        Err(why) if error::forbidden(&why).is_some() => return Ok(Answer::Forbidden),
        Err(why) => return Err(error::of(why, CHECK)),
    }
    let second = envelope::probe_of_binding(Asks { id, behind: true });
    let sent = async { channel.basic_publish("".into(), queue, mandatory, b"", second).await?.await };
    let there = matches!(link.ask(CHECK, sent).await?, Confirmation::Ack(None));
    link.ask(CHECK, channel.close(200, "checked".into())).await?;
    Ok(Answer::Wait(there))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const FIRST: Asks = Asks { id: 7, behind: false };
    const SECOND: Asks = Asks { id: 7, behind: true };

    fn asked() -> Bindings {
        let pair = Pair { id: 7, slot: 3, asked_at: now(), first_came: false };
        Bindings { pair: Some(pair), ..Bindings::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_missing_when_the_second_probe_comes_alone_and_soon() {
        let anothers = Asks { id: 8, behind: true };
        for (waits, heard, missing) in [
            (0, &[SECOND][..], Some(3)),
            (0, &[FIRST, SECOND], None),
            (0, &[FIRST], None),
            (0, &[anothers], None),
            (30, &[SECOND], None),
        ] {
            let mut bindings = asked();
            advance(Duration::from_secs(waits)).await;
            heard.iter().for_each(|asks| bindings.heard(*asks));
            assert_eq!(bindings.missing(), missing, "{heard:?} after {waits} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_a_purge_took_is_not_the_last_one() {
        let mut bindings = asked();
        advance(KEPT - Duration::from_millis(1)).await;
        bindings.forget_old();
        assert!(bindings.pair.is_some(), "it may be on its way");
        advance(Duration::from_millis(1)).await;
        bindings.forget_old();
        assert!(bindings.pair.is_none());
    }
}
