//! Rights that are lost, moved, given back, renewed, run out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Failure, Fence, Processor, ProducerId, Received, SessionId, runtime, with_state};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{Act, Scenario, scenario};
use crate::suite::act::{GROUP, Held, Log, hold, id, same, say, send};
use crate::suite::{Answered, Fault, Shape, Wishes};

pub(super) const ALL: &[Scenario] = &[
    scenario!(
        "lock-lost-in-the-middle-of-a-handler",
        [LiveExclusion, ZombieBound, SuffixRedelivery],
        lost_in_the_middle,
        needs[Lose]
    ),
    scenario!("given-back-while-a-handler-runs", [LiveExclusion, SessionFifo], given_back, needs[GiveBack]),
    scenario!("renewed-while-a-long-handler-runs", [LiveExclusion], renewed, wishes short_lock()),
    scenario!(
        "moved-to-another-consumer-while-a-handler-runs",
        [LiveExclusion, SettleFencing, SuffixRedelivery],
        moved,
        needs[HandOver]
    ),
    scenario!(
        "no-renewal-runs-out-and-is-surrendered",
        [LiveExclusion, ZombieBound],
        not_renewed,
        needs[Answers],
        wishes short_lock()
    ),
    scenario!(
        "a-refused-renewal-ends-the-right",
        [LiveExclusion, ZombieBound],
        renewal_refused,
        needs[Answers],
        wishes short_lock()
    ),
    scenario!("zombie-is-fenced-at-the-sink", [FencedEffects, SettleFencing], zombie_at_the_sink, needs[HandOver]),
    scenario!(
        "handler-that-ignores-the-loss-is-dropped-after-grace",
        [ZombieBound, LiveExclusion],
        ignores_the_loss,
        needs[Lose],
        wishes Wishes { lanes: 1, ..Wishes::default() }
    ),
];

pub(super) fn short_lock() -> Wishes {
    Wishes { lock: Duration::from_secs(5), ..Wishes::default() }
}

async fn lost_in_the_middle(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("start {}", message.body));
        if log.count(&format!("start {}", message.body)) == 1 && message.body == "1" {
            message.lease().ended().await;
            log.write("told");
            return Err(Failure::retry("told to end"));
        }
        log.write(format!("done {}", message.body));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 4).await?;
    act.until("the handler runs", || log.count("start 1") == 1).await?;
    act.inject(Fault::Lose(id("s0")))?;
    act.until("all done", || log.count("done 3") == 1).await?;
    let lines = log.lines();
    same!(lines[..4], ["start 0", "done 0", "start 1", "told"], "until the loss");
    // What was handled and not yet settled may come again; where each message is settled by itself nothing does.
    let repeats = act.shape() == Shape::Lanes && lines.get(4).is_some_and(|l| l == "start 0");
    let from = if repeats { 6 } else { 4 };
    same!(lines[from..], ["start 1", "done 1", "start 2", "done 2", "start 3", "done 3"], "from the lost one on");
    let report = processor.drain().await?;
    same!(report.last.failed, 0, "the loss is not charged");
    act.judge()
}

async fn given_back(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("in {}", message.body));
        if log.count(&format!("in {}", message.body)) == 1 && message.body == "0" {
            // It does not listen: its gate must stay shut until it is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        log.write(format!("out {}", message.body));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 2).await?;
    act.until("the handler runs", || log.count("in 0") == 1).await?;
    act.inject(Fault::GiveBack(id("s0")))?;
    act.until("all done", || log.count("out 1") == 1).await?;
    same!(log.lines(), ["in 0", "out 0", "in 0", "out 0", "in 1", "out 1"], "one at a time, through the hand-over");
    processor.drain().await?;
    act.judge()
}

async fn renewed(act: Arc<Act>) -> Held {
    act.group_number(GROUP);
    let handler = |_: (), message: Received<String>| async move {
        tokio::time::sleep(Duration::from_secs(23)).await;
        if message.lease().is_live() { Ok(()) } else { Err(Failure::retry("the right was gone")) }
    };
    let processor = act.processor().start(with_state((), handler)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "long").await?;
    act.completed(&processor, 1).await?;
    let last = processor.drain().await?.last;
    hold!(last.failed == 0 && last.lost == 0, "it lost its right: {last:?}");
    act.judge()
}

/// Two processors of one handler, that know their names, once both have joined.
async fn two<F, Fut>(act: &Arc<Act>, log: &Log, handler: F) -> Result<[Processor; 2], crate::suite::Failed>
where
    F: Fn((Log, &'static str), Received<String>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let a = act.processor().start(with_state((log.clone(), "a"), handler.clone())).await?;
    let b = act.processor().start(with_state((log.clone(), "b"), handler)).await?;
    if act.shape() == Shape::Lanes {
        act.until("both hold lanes", || a.snapshot().held == 2 && b.snapshot().held == 2).await?;
    }
    act.until("both are ready", || a.snapshot().ready && b.snapshot().ready).await?;
    Ok([a, b])
}

async fn moved(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |(log, name): (Log, &'static str), message: Received<String>| async move {
        log.write(format!("{name}:{}", message.body));
        if message.body == "0" && log.count("a:0") + log.count("b:0") == 1 {
            message.lease().ended().await;
            log.write("told");
            // That it ends well counts for nothing any more.
        }
        Ok(())
    };
    let [a, b] = two(&act, &log, handler).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    act.until("the handler runs", || log.len() == 1).await?;
    let (old, new) = if log.count("a:0") == 1 { ("a", "b") } else { ("b", "a") };
    act.inject(Fault::HandOver(id("s0")))?;
    act.until("all done", || log.count("a:2") + log.count("b:2") > 0 && log.count("told") == 1).await?;
    same!(log.of(old)[..1], ["0"], "the old holder");
    same!(log.of(new)[..1], ["0"], "the new one starts at what was not settled");
    let rest: Vec<String> = log.lines().into_iter().filter(|l| l.ends_with(":1") || l.ends_with(":2")).collect();
    same!(rest.len(), 2, "the others come once: {:?}", log.lines());
    hold!(rest[0].ends_with(":1"), "in order: {rest:?}");
    let lost = a.snapshot().lost + b.snapshot().lost;
    hold!(lost >= 1, "nobody noticed the loss");
    a.drain().await?;
    b.drain().await?;
    act.judge()
}

/// A handler that is told to end the first time that it sees `0`.
async fn told_once(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(format!("in {}", message.body));
    if message.body == "0" && log.count("in 0") == 1 {
        message.lease().ended().await;
        log.write(if message.lease().is_live() { "told while live" } else { "told" });
        return Err(Failure::retry("told to end"));
    }
    Ok(())
}

async fn not_renewed(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), told_once)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 2).await?;
    act.until("the handler runs", || log.count("in 0") == 1).await?;
    // More than are asked for, of one session or of all lanes, until the right runs out.
    act.inject(Fault::Renewals(40, Answered::NotApplied))?;
    let began = runtime::now();
    act.until("it is told", || log.count("told") == 1).await?;
    let after = runtime::now().since(began);
    hold!(after <= Duration::from_secs(5), "told {after:?} after it began, under a lock of 5 s");
    act.until("all done", || log.count("in 1") == 1).await?;
    same!(log.lines(), ["in 0", "told", "in 0", "in 1"], "what ran");
    let last = processor.drain().await?.last;
    hold!(last.lost >= 1 && last.failed == 0, "the loss is counted and not charged: {last:?}");
    act.judge()
}

async fn renewal_refused(act: Arc<Act>) -> Held {
    const SESSIONS: usize = 16;
    let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
    let handler = |(log, gate): (Log, Arc<Semaphore>), message: Received<String>| async move {
        let session = message.session().to_string();
        log.write(format!("in {session}"));
        tokio::select! {
            () = message.lease().ended() => {
                log.write(format!("told:{session}"));
                Err(Failure::retry("told to end"))
            }
            opened = gate.acquire() => opened.map(drop).map_err(Failure::from),
        }
    };
    let processor = act.processor().start(with_state((log.clone(), Arc::clone(&gate)), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, SESSIONS, 1).await?;
    act.until("all run", || processor.snapshot().running == SESSIONS).await?;
    act.inject(Fault::Renewals(1, Answered::Refused))?;
    act.until("somebody is told", || !log.of("told").is_empty()).await?;
    let told = log.of("told");
    // One right ended: of one session, or of a lane of some.
    same!(processor.snapshot().lost, 1, "rights lost");
    hold!(told.len() < SESSIONS, "all were told: {told:?}");
    hold!(act.shape() == Shape::Lanes || told.len() == 1, "more than one was told: {told:?}");
    gate.add_permits(SESSIONS);
    act.completed(&processor, SESSIONS).await?;
    for session in (0..SESSIONS).map(|s| format!("s{s}")) {
        let runs = if log.of("told").contains(&session) { 2 } else { 1 };
        same!(log.count(&format!("in {session}")), runs, "runs of {session}");
    }
    let last = processor.drain().await?.last;
    hold!(last.lost == 1 && last.failed == 0, "the loss is not charged: {last:?}");
    act.judge()
}

/// What a sink keeps a place for.
type Row = (SessionId, Option<ProducerId>);

/// A sink that keeps the last place of each session, and takes only a later one.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<HashMap<Row, Fence>>>);

impl Sink {
    fn takes(&self, fence: Fence) -> bool {
        let mut rows = self.0.lock();
        let row = (fence.session().clone(), fence.row());
        let later = rows.get(&row).is_none_or(|last| fence > *last);
        if later {
            rows.insert(row, fence);
        }
        later
    }
}

async fn zombie_at_the_sink(act: Arc<Act>) -> Held {
    let (log, sink) = (Log::default(), Sink::default());
    let to = sink.clone();
    let handler = move |(log, _): (Log, &'static str), message: Received<String>| {
        let sink = to.clone();
        async move {
            log.write(format!("in {}", message.body));
            if message.body == "0" && log.count("in 0") == 1 {
                // It does not look at its right, and writes when the session has moved on and its heir has written.
                while log.count("took:0") == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                log.write("the old one writes");
            }
            let verb = if sink.takes(message.fence()) { "took" } else { "refused" };
            log.write(format!("{verb}:{}", message.body));
            Ok(())
        }
    };
    let [a, b] = two(&act, &log, handler).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    act.until("the handler runs", || log.count("in 0") == 1).await?;
    act.inject(Fault::HandOver(id("s0")))?;
    act.until_logged(&log, "the old one wrote", |log| log.count("the old one writes") == 1).await?;
    let done = |log: &Log| log.count("took:2") == 1 && !log.of("refused").is_empty();
    act.until_logged(&log, "all done", done).await?;
    a.drain().await?;
    b.drain().await?;
    // How many it starts until it hears that it has no right any more, a broker decides; whatever it does, it does for nothing.
    let (took, refused) = (log.of("took"), log.of("refused"));
    same!(took, ["0", "1", "2"], "what the sink took");
    hold!(!refused.is_empty() && took.starts_with(&refused), "the sink refused {refused:?} of the old one");
    act.judge()
}

/// Writes a line when it is dropped.
struct WhenDropped(Log);

impl Drop for WhenDropped {
    fn drop(&mut self) {
        self.0.write("dropped");
    }
}

async fn ignores_the_loss(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("in {}", message.body));
        if message.body == "0" && log.count("in 0") == 1 {
            let _dropped = WhenDropped(log);
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let grace = Duration::from_secs(1);
    let processor = act.consumer().grace(grace).processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 2).await?;
    act.until("the handler runs", || log.count("in 0") == 1).await?;
    act.inject(Fault::Lose(id("s0")))?;
    let began = runtime::now();
    act.until("it is dropped", || log.count("dropped") == 1).await?;
    let after = runtime::now().since(began);
    hold!(after >= grace - Duration::from_millis(50), "it had {after:?} of {grace:?}");
    hold!(after <= grace + Duration::from_millis(500), "it had {after:?} of {grace:?}");
    act.until("all done", || log.count("in 1") == 1).await?;
    same!(log.lines(), ["in 0", "dropped", "in 0", "in 1"], "its session waits for its end");
    let last = processor.drain().await?.last;
    hold!(last.lost == 1 && last.failed == 0, "the loss is not charged: {last:?}");
    act.judge()
}
