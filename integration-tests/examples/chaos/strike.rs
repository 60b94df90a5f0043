//! Faults as they strike.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use convoy_conformance::faults::proxy::{Blackhole, Way};
use convoy_conformance::history::{Fault as Recorded, Phase, Recorder, Side, What, now};
use tokio::time::sleep;

use crate::plan::{Bytes, CONSUMERS, Deaf, Fault, Kind};
use crate::stage::{Slot, Stage};

const SLOW: Duration = Duration::from_millis(120);
const JITTER: Duration = Duration::from_millis(60);
/// The largest piece, in bytes.
const PIECE: usize = 7;

/// Does what the fault says, from its begin to its end. Whether there was somebody to strike.
pub(crate) async fn strike(stage: &Arc<Stage>, fault: Fault) -> Result<bool, String> {
    let Fault { kind, lasts, .. } = fault;
    match kind {
        Kind::Kill(at) => kill(stage, &stage.slots[at], lasts).await,
        Kind::Freeze(at) => freeze(stage, &stage.slots[at], lasts).await,
        Kind::Restart(at) => restart(stage, &[at], lasts).await,
        Kind::Scale(stays) => {
            let others: Vec<usize> = (0..CONSUMERS).filter(|at| *at != stays).collect();
            restart(stage, &others, lasts).await
        }
        Kind::BrokerStop | Kind::BrokerKill | Kind::BrokerFreeze | Kind::Alarm => broker(stage, kind, lasts).await,
        Kind::Reset(at) | Kind::Blackhole(at, ..) | Kind::Slow(at) | Kind::Cut(at, _) | Kind::Slice(at) => {
            Ok(link(&stage.slots[at], kind, lasts).await)
        }
    }
}

async fn kill(stage: &Stage, slot: &Slot, lasts: Duration) -> Result<bool, String> {
    let mut life = slot.life.lock().await;
    let Some(one) = life.as_mut() else { return Ok(false) };
    one.kill(&stage.history).await?;
    stage.over(slot, &mut life);
    sleep(lasts).await;
    stage.start(slot, &mut life).map(|()| true)
}

async fn freeze(stage: &Stage, slot: &Slot, lasts: Duration) -> Result<bool, String> {
    let life = slot.life.lock().await;
    let Some(one) = life.as_ref() else { return Ok(false) };
    one.freeze(&stage.history, true)?;
    sleep(lasts).await;
    one.freeze(&stage.history, false).map(|()| true)
}

/// Drains these workers, all at once, and starts them again after a while.
async fn restart(stage: &Stage, which: &[usize], lasts: Duration) -> Result<bool, String> {
    let mut lives = Vec::new();
    for at in which {
        // Always in the order of their numbers, so that two of these wait for each other and no more.
        lives.push((&stage.slots[*at], stage.slots[*at].life.lock().await));
    }
    let drains = lives.iter_mut().filter_map(|(_, life)| life.as_mut()).map(|one| one.drain(&stage.history));
    for outcome in futures_util::future::join_all(drains).await {
        // A fault beside it may keep a drain from being finished: the history says so, and is judged by it.
        if let Err(why) = outcome {
            eprintln!("\r\x1b[K{why}");
            stage.undrained.fetch_add(1, Ordering::Relaxed);
        }
    }
    lives.iter_mut().for_each(|(slot, life)| stage.over(slot, life));
    sleep(lasts).await;
    lives.iter_mut().try_for_each(|(slot, life)| stage.start(slot, life)).map(|()| true)
}

async fn broker(stage: &Stage, kind: Kind, lasts: Duration) -> Result<bool, String> {
    let mut broker = stage.broker.lock().await;
    let told = |fault, phase| {
        stage.history.record(now(), 0, What::Fault { fault, side: Side::Both, phase, target: 0 });
    };
    // The node that is killed is the only one, so it is a node that is lost as well: what it had not written to disk of the acknowledgements it has forgotten.
    let lost = kind == Kind::BrokerKill;
    if lost {
        told(Recorded::NodeLoss, Phase::Begin);
    }
    let fault = match kind {
        Kind::BrokerStop => Recorded::BrokerStop,
        Kind::BrokerKill => Recorded::BrokerKill,
        Kind::BrokerFreeze => Recorded::BrokerFreeze,
        _ => Recorded::Full,
    };
    told(fault, Phase::Begin);
    match kind {
        Kind::BrokerStop => broker.down().await?,
        Kind::BrokerKill => broker.kill().await?,
        Kind::BrokerFreeze => broker.freeze(true)?,
        _ => broker.alarm(true).await?,
    }
    sleep(lasts).await;
    match kind {
        Kind::BrokerStop | Kind::BrokerKill => broker.up().await?,
        Kind::BrokerFreeze => broker.freeze(false)?,
        _ => broker.alarm(false).await?,
    }
    told(fault, Phase::End);
    if lost {
        told(Recorded::NodeLoss, Phase::End);
    }
    Ok(true)
}

/// Spoils a link. The proxy records it.
async fn link(slot: &Slot, kind: Kind, lasts: Duration) -> bool {
    let _alone = slot.link.lock().await;
    let way = |deaf| match deaf {
        Deaf::Broker => Way::ToBroker,
        Deaf::Client => Way::ToClient,
        Deaf::Both => Way::Both,
    };
    let proxy = &slot.proxy;
    let struck = match kind {
        Kind::Blackhole(_, deaf, bytes) => {
            let kind = if bytes == Bytes::Lost { Blackhole::Drop } else { Blackhole::Hold };
            proxy.all().blackhole(way(deaf), kind)
        }
        Kind::Slow(_) => proxy.all().delay(Way::Both, SLOW, JITTER),
        Kind::Slice(_) => proxy.all().slice(Way::Both, PIECE),
        Kind::Cut(_, deaf) => proxy.living().cut_mid_frame(way(deaf)),
        _ => proxy.living().reset(Side::Both),
    };
    if !lasts.is_zero() {
        sleep(lasts).await;
        proxy.all().heal();
    }
    struck > 0
}
