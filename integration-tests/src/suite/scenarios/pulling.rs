//! Sessions held by a loop of one's own, their state, and the set-up of the broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::{Bound, Bounds, ChannelSpec, ErrorKind, Guarantee, Outcome, Severity, Support, Topology};

use super::settling::numbers;
use super::{Act, Scenario, scenario};
use crate::suite::act::{Failed, GROUP, Held, hold, id, same, say, send};
use crate::suite::{Fault, Shape, Wishes};

pub(super) const ALL: &[Scenario] = &[
    scenario!("a-session-is-pulled-in-order", [SessionFifo, NoLoss], pulled_in_order),
    scenario!("accept-next-is-fair", [NoLoss], accept_next_is_fair),
    scenario!("accept-named", [LiveExclusion], accept_named),
    scenario!("accept-named-held-elsewhere", [LiveExclusion], held_elsewhere),
    scenario!("lane-full-under-pull", [NoLoss], lane_full, only Lanes, wishes Wishes { lanes: 1, ..Wishes::default() }),
    scenario!("delivery-dropped-is-offered-again", [NoLoss, SessionFifo], dropped_delivery),
    scenario!("forgotten-delivery-lets-the-lock-run-out", [NoLoss, LiveExclusion], forgotten, only Sessions, wishes Wishes { lock: Duration::from_secs(5), ..Wishes::default() }),
    scenario!("settling-after-the-loss-is-refused", [SettleFencing, SuffixRedelivery], settled_after_loss, needs[Lose]),
    scenario!("flush-and-release-mean-it", [BoundedDuplicates, NoLoss], flush_and_release),
    scenario!("session-state-is-kept-and-fenced", [StateFencing], state_fenced, needs[Lose]),
    scenario!("unsupported-state-says-so", [NoLoss], state_unsupported, only Lanes),
    scenario!("closed-while-accepting", [NoLoss], closed_while_accepting),
    scenario!("provision-then-check-finds-nothing", [NoLoss], provision_then_check),
    scenario!("another-lane-count-is-a-finding", [SessionFifo], other_lane_count, only Lanes),
    scenario!("every-guarantee-has-a-claim", [NoLoss], every_guarantee),
];

const SECOND: Duration = Duration::from_secs(1);

async fn pulled_in_order(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let consumer = act.consumer().open().await?;
    send(&producer, 3, 5).await?;
    for _ in 0..3 {
        let mut session = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
        let mut bodies = Vec::new();
        for _ in 0..5 {
            let next = session.next::<String>(10 * SECOND).await?;
            let delivery = next.ok_or_else(|| Failed::because("no message came"))?;
            bodies.push(delivery.body.clone());
            delivery.complete().await?;
        }
        same!(bodies, numbers(0..5), "in order");
        session.release(10 * SECOND).await?;
    }
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn accept_next_is_fair(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let consumer = act.consumer().shards(1).open().await?;
    send(&producer, 5, 2).await?;
    let mut seen = Vec::new();
    // One message of each session at a time: nobody comes twice before everybody came once.
    for _ in 0..10 {
        let mut session = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
        let next = session.next::<String>(10 * SECOND).await?;
        next.ok_or_else(|| Failed::because("no message came"))?.complete().await?;
        seen.push(session.id().to_string());
        session.release(10 * SECOND).await?;
    }
    let (mut first, mut second) = (seen[..5].to_vec(), seen[5..].to_vec());
    first.sort();
    second.sort();
    same!((first.len(), &first), (5, &second), "each once in each round: {seen:?}");
    hold!(first.windows(2).all(|w| w[0] != w[1]), "no session twice in a round: {seen:?}");
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn accept_named(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let consumer = act.consumer().open().await?;
    act.until("it holds what it will", || act.shape() == Shape::Sessions || consumer.snapshot().held > 0).await?;
    let mut session = consumer.accept("s0", 10 * SECOND).await?;
    hold!(session.next::<String>(SECOND).await?.is_none(), "it has no message yet");
    say(&producer, "s0", "0").await?;
    let next = session.next::<String>(10 * SECOND).await?;
    next.ok_or_else(|| Failed::because("no message came"))?.complete().await?;
    session.release(10 * SECOND).await?;
    same!(consumer.accept("", SECOND).await.err().map(|e| e.kind()), Some(ErrorKind::InvalidSession), "an empty id");
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn held_elsewhere(act: Arc<Act>) -> Held {
    let (first, second) = (act.consumer().open().await?, act.consumer().open().await?);
    let lanes = act.shape() == Shape::Lanes;
    act.until("each holds what it will", || !lanes || (first.snapshot().held > 0 && second.snapshot().held > 0))
        .await?;
    // On lanes one of the two owns the session's lane.
    let mine = match first.accept("s0", 10 * SECOND).await {
        Ok(session) => (session, &second),
        Err(_) => (second.accept("s0", 10 * SECOND).await?, &first),
    };
    let refused = mine.1.accept("s0", 2 * SECOND).await.err().map(|e| (e.kind(), e.outcome()));
    let expected = if lanes { ErrorKind::NotOwner } else { ErrorKind::Timeout };
    same!(refused, Some((expected, Outcome::NotApplied)), "for the other");
    drop(mine);
    first.close(10 * SECOND).await?;
    second.close(10 * SECOND).await?;
    act.judge()
}

async fn lane_full(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let mut bounds = Bounds::default();
    bounds.lane = Bound::new(8, 1 << 20);
    bounds.session = bounds.lane;
    let consumer = act.consumer().bounds(bounds).open().await?;
    act.until("it holds the lane", || consumer.snapshot().held == 1).await?;
    let mut quiet = consumer.accept("quiet", 10 * SECOND).await?;
    for number in 0..200 {
        say(&producer, "loud", &number.to_string()).await?;
    }
    act.until("the lane is full", || consumer.snapshot().buffered >= 8).await?;
    say(&producer, "quiet", "0").await?;
    hold!(quiet.next::<String>(10 * SECOND).await?.is_none(), "its turn is given back");
    let blocked = consumer.accept("another", SECOND).await.err().map(|e| e.kind());
    same!(blocked, Some(ErrorKind::LaneBlocked), "a session that nothing can come for");
    let mut loud = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
    for _ in 0..200 {
        let next = loud.next::<String>(10 * SECOND).await?;
        next.ok_or_else(|| Failed::because("no message came"))?.complete().await?;
    }
    let next = quiet.next::<String>(10 * SECOND).await?;
    next.ok_or_else(|| Failed::because("the quiet one got nothing"))?.complete().await?;
    drop((loud, quiet));
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn dropped_delivery(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let consumer = act.consumer().open().await?;
    send(&producer, 1, 2).await?;
    let mut session = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
    for _ in 0..3 {
        let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
        same!((delivery.body.as_str(), delivery.attempt()), ("0", 1), "the same one, uncharged");
        drop(delivery);
    }
    for body in ["0", "1"] {
        let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
        same!(delivery.body, body, "in order");
        delivery.complete().await?;
    }
    session.release(10 * SECOND).await?;
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn forgotten(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    let (first, second) = (act.consumer().open().await?, act.consumer().open().await?);
    let mut session = first.accept("s0", 10 * SECOND).await?;
    let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
    std::mem::forget(delivery);
    drop(session);
    let early = second.accept("s0", SECOND).await.err().map(|e| e.kind());
    same!(early, Some(ErrorKind::Timeout), "it is not released under a delivery");
    let mut session = second.accept("s0", 20 * SECOND).await?;
    let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
    delivery.complete().await?;
    session.release(10 * SECOND).await?;
    second.close(10 * SECOND).await?;
    Ok(())
}

async fn settled_after_loss(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let consumer = act.consumer().open().await?;
    say(&producer, "s0", "0").await?;
    let mut session = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
    let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
    act.inject(Fault::Lose(id("s0")))?;
    delivery.lease().ended().await;
    let refused = delivery.complete().await.err().map(|e| (e.kind(), e.outcome()));
    same!(refused, Some((ErrorKind::LockLost, Outcome::NotApplied)), "settling");
    hold!(!session.is_held(), "and the session knows");
    drop(session);
    let mut session =
        consumer.accept_next(20 * SECOND).await?.ok_or_else(|| Failed::because("it did not come again"))?;
    let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
    delivery.complete().await?;
    session.release(10 * SECOND).await?;
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn flush_and_release(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    let consumer = act.consumer().open().await?;
    let mut session = consumer.accept_next(10 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
    for _ in 0..2 {
        let next = session.next::<String>(10 * SECOND).await?;
        next.ok_or_else(|| Failed::because("no message came"))?.complete().await?;
    }
    session.flush(10 * SECOND).await?;
    // An unclean end: what was flushed does not come again.
    drop((session, consumer));
    let second = act.consumer().open().await?;
    let mut session = second.accept_next(60 * SECOND).await?.ok_or_else(|| Failed::because("no session came"))?;
    let delivery = session.next::<String>(10 * SECOND).await?.ok_or_else(|| Failed::because("no message came"))?;
    same!(delivery.body, "2", "the first that was not settled");
    delivery.complete().await?;
    session.release(10 * SECOND).await?;
    second.close(10 * SECOND).await?;
    act.judge()
}

async fn state_fenced(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    let (first, second) = (act.consumer().open().await?, act.consumer().open().await?);
    say(&producer, "s0", "0").await?;
    let old = first.accept("s0", 10 * SECOND).await?;
    same!(old.state().await?, None, "at first");
    old.set_state(Some(Bytes::from_static(b"one"))).await?;
    same!(old.state().await?, Some(Bytes::from_static(b"one")), "what was written");
    let large = old.set_state(Some(Bytes::from(vec![0; 8 << 20]))).await.err().map(|e| e.kind());
    same!(large, Some(ErrorKind::TooLarge), "too much");
    let (accepted, moved) = tokio::join!(second.accept("s0", 30 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        act.inject(Fault::Lose(id("s0")))
    });
    moved?;
    let mut new = accepted?;
    new.set_state(Some(Bytes::from_static(b"two"))).await?;
    let stale = old.set_state(Some(Bytes::from_static(b"stale"))).await.err().map(|e| e.kind());
    same!(stale, Some(ErrorKind::LockLost), "the old holder");
    same!(new.state().await?, Some(Bytes::from_static(b"two")), "the last accepted write");
    let next = new.next::<String>(10 * SECOND).await?;
    next.ok_or_else(|| Failed::because("no message came"))?.complete().await?;
    new.release(10 * SECOND).await?;
    drop(old);
    let again = first.accept("s0", 30 * SECOND).await?;
    same!(again.state().await?, Some(Bytes::from_static(b"two")), "after the fail-over");
    again.release(10 * SECOND).await?;
    first.close(10 * SECOND).await?;
    second.close(10 * SECOND).await?;
    act.judge()
}

async fn state_unsupported(act: Arc<Act>) -> Held {
    if act.broker().guarantees().of(Guarantee::StateFencing).support != Support::Unsupported {
        return Ok(());
    }
    let consumer = act.consumer().open().await?;
    act.until("it holds a lane", || consumer.snapshot().held > 0).await?;
    let session = consumer.accept("s0", 10 * SECOND).await?;
    same!(session.state().await.err().map(|e| e.kind()), Some(ErrorKind::Unsupported), "reading");
    same!(session.set_state(None).await.err().map(|e| e.kind()), Some(ErrorKind::Unsupported), "writing");
    drop(session);
    consumer.close(10 * SECOND).await?;
    act.judge()
}

async fn closed_while_accepting(act: Arc<Act>) -> Held {
    let consumer = Arc::new(act.consumer().open().await?);
    let waits = Arc::clone(&consumer);
    let waiting = tokio::spawn(async move { waits.accept_next(5 * SECOND).await });
    tokio::time::sleep(SECOND).await;
    let none = waiting.await?;
    hold!(matches!(none, Ok(None)), "nothing came: {none:?}");
    let consumer = Arc::into_inner(consumer).ok_or_else(|| Failed::because("somebody holds the consumer"))?;
    let report = consumer.close(10 * SECOND).await?;
    hold!(report.drained && report.last.held == 0, "it is closed: {report:?}");
    act.judge()
}

fn topology(act: &Act) -> Topology {
    Topology::new().channel(ChannelSpec::new(act.channel()).group(GROUP))
}

async fn provision_then_check(act: Arc<Act>) -> Held {
    act.broker().provision(&topology(&act)).await?;
    let bad = |f: &&convoy_core::Finding| f.severity == Severity::Breaks;
    let findings = act.broker().check(&topology(&act)).await?;
    hold!(!findings.iter().any(|f| bad(&f)), "what was provisioned breaks nothing: {findings:?}");
    let missing = Topology::new().channel(ChannelSpec::new("nobody made this"));
    let findings = act.broker().check(&missing).await?;
    let found = findings.iter().find(bad).ok_or_else(|| Failed::because("a missing channel was not found"))?;
    hold!(found.what.contains("nobody made this") && !found.remedy.is_empty(), "it names it: {found}");
    Ok(())
}

async fn other_lane_count(act: Arc<Act>) -> Held {
    let other = Topology::new().channel(ChannelSpec::new(act.channel()).group(GROUP).lanes(7));
    let findings = act.broker().check(&other).await?;
    let found = findings.iter().find(|f| f.code == "lane-count");
    hold!(found.is_some_and(|f| f.severity == Severity::Breaks), "the lane count is pinned: {findings:?}");
    Ok(())
}

async fn every_guarantee(act: Arc<Act>) -> Held {
    let claims = act.broker().guarantees();
    same!(claims.iter().count(), Guarantee::ALL.len(), "claims");
    let wordless = claims.iter().find(|c| c.why.is_empty() || c.why == "not claimed");
    hold!(wordless.is_none(), "each says why in a line: {wordless:?}");
    Ok(())
}
