//! Faults as they strike.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use convoy_conformance::faults::proxy::{Blackhole, Proxy, Refuse, Way};
use convoy_conformance::history::{Fault as Recorded, Phase, Recorder, Side, What, now};
use tokio::time::{Instant, sleep};

use crate::plan::{Bytes, CONSUMERS, Deaf, Fault, Kind, node_number};
use crate::stage::{Slot, Stage};

const SLOW: Duration = Duration::from_millis(120);
const JITTER: Duration = Duration::from_millis(60);
/// The largest piece, in bytes.
const PIECE: usize = 7;
/// How long a member is there, and away, when it comes and goes.
const CHURN: Duration = Duration::from_secs(1);

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
        Kind::Churn(at) => churn(stage, &stage.slots[at], lasts).await,
        Kind::BrokerStop | Kind::BrokerKill | Kind::BrokerFreeze | Kind::Alarm => broker(stage, kind, lasts).await,
        Kind::Reset(at) | Kind::Blackhole(at, ..) | Kind::Slow(at) | Kind::Cut(at, _) | Kind::Slice(at) => {
            Ok(link(&stage.slots[at], fault).await)
        }
        Kind::NodeFreeze(at) => node_freeze(stage, at, lasts).await,
        Kind::NodeKill(at) | Kind::NodeStop(at) => node(stage, kind, at, lasts).await,
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

/// Joins and leaves, about once a second.
async fn churn(stage: &Stage, slot: &Slot, lasts: Duration) -> Result<bool, String> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        restart(stage, &[slot.at], CHURN / 2).await?;
        sleep(CHURN / 2).await;
    }
    Ok(true)
}

async fn broker(stage: &Stage, kind: Kind, lasts: Duration) -> Result<bool, String> {
    let mut broker = stage.broker.lock().await;
    let backend = stage.args.backend;
    let side = if backend.ends_with_connection() { Side::Both } else { Side::Client };
    let told = |fault, phase| {
        stage.history.record(now(), 0, What::Fault { fault, side, phase, target: 0 });
    };
    // The node that is killed is the only one, so it is a node that is lost as well: what it had not written to disk of the acknowledgements it has forgotten.
    let lost = kind == Kind::BrokerKill && backend.forgets_when_killed();
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
        Kind::BrokerKill => broker.kill(0).await?,
        Kind::BrokerFreeze => broker.freeze(0, true)?,
        _ => broker.alarm(true).await?,
    }
    sleep(lasts).await;
    match kind {
        Kind::BrokerStop | Kind::BrokerKill => broker.up().await?,
        Kind::BrokerFreeze => broker.freeze(0, false)?,
        _ => broker.alarm(false).await?,
    }
    told(fault, Phase::End);
    if lost {
        told(Recorded::NodeLoss, Phase::End);
    }
    Ok(true)
}

/// A node of a cluster goes and comes back. It is told under a number of its own, with which no right ends: its clients see their connections end, and where a broker moves a lane
/// before they can have seen it, that is told of each of them.
async fn node(stage: &Stage, kind: Kind, at: usize, lasts: Duration) -> Result<bool, String> {
    let mut broker = stage.broker.lock().await;
    let told = |fault, phase, target| {
        stage.history.record(now(), 0, What::Fault { fault, side: Side::Both, phase, target });
    };
    let killed = matches!(kind, Kind::NodeKill(_));
    let (fault, of_clients) = match killed {
        true => (Recorded::NodeLoss, Recorded::BrokerKill),
        false => (Recorded::BrokerStop, Recorded::BrokerStop),
    };
    // From here on nobody new is its client, so these are all.
    door(stage, at, Refuse::Closed).await?;
    let connected = stage.slots.iter().filter(|slot| !slot.proxies[at].connections().is_empty());
    let clients: Vec<u32> = connected.map(Slot::process).filter(|process| *process > 0).collect();
    told(fault, Phase::Begin, node_number(at));
    let ends = broker.ends_with_node(killed);
    for client in clients.iter().filter(|_| ends) {
        told(of_clients, Phase::Begin, *client);
    }
    if killed {
        broker.kill(at).await?
    } else {
        broker.stop_node(at).await?
    }
    for client in clients.iter().filter(|_| ends) {
        told(of_clients, Phase::End, *client);
    }
    sleep(lasts).await;
    door(stage, at, Refuse::No).await?;
    let up = broker.up().await;
    told(fault, Phase::End, node_number(at));
    up.map(|()| true)
}

/// A node stands still: none of its connections ends, and no right with it.
async fn node_freeze(stage: &Stage, at: usize, lasts: Duration) -> Result<bool, String> {
    let mut broker = stage.broker.lock().await;
    let told = |phase| {
        let what = What::Fault { fault: Recorded::BrokerFreeze, side: Side::Both, phase, target: node_number(at) };
        stage.history.record(now(), 0, what);
    };
    told(Phase::Begin);
    broker.freeze(at, true)?;
    sleep(lasts).await;
    broker.freeze(at, false)?;
    told(Phase::End);
    // The next node must not go while this one is behind.
    broker.up().await.map(|()| true)
}

/// Opens or shuts all links to come to a node.
async fn door(stage: &Stage, node: usize, how: Refuse) -> Result<(), String> {
    for slot in &stage.slots {
        slot.proxies[node].refuse(how).await.map_err(|e| format!("proxy: {e}"))?;
    }
    Ok(())
}

/// Spoils the links of a worker, to all nodes. The proxies record it.
async fn link(slot: &Slot, fault: Fault) -> bool {
    let Fault { kind, lasts, around, .. } = fault;
    let _alone = slot.link.lock().await;
    let way = |deaf| match deaf {
        Deaf::Broker => Way::ToBroker,
        Deaf::Client => Way::ToClient,
        Deaf::Both => Way::Both,
    };
    let spoil = |proxy: &Proxy| {
        let links = if around { proxy.living() } else { proxy.all() };
        match kind {
            Kind::Blackhole(_, deaf, bytes) => {
                let kind = if bytes == Bytes::Lost { Blackhole::Drop } else { Blackhole::Hold };
                links.blackhole(way(deaf), kind)
            }
            Kind::Slow(_) => links.delay(Way::Both, SLOW, JITTER),
            Kind::Slice(_) => links.slice(Way::Both, PIECE),
            Kind::Cut(_, deaf) => proxy.living().cut_mid_frame(way(deaf)),
            _ => proxy.living().reset(Side::Both),
        }
    };
    let struck: usize = slot.proxies.iter().map(spoil).sum();
    if !lasts.is_zero() {
        sleep(lasts).await;
        slot.proxies.iter().for_each(|proxy| _ = proxy.all().heal());
    }
    struck > 0
}
