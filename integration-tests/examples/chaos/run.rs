//! A run from the start of its broker to the verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::args::Args;
use crate::excerpt;
use crate::judge::{self, Judged};
use crate::live::Live;
use crate::plan::{CONSUMERS, Fault, On, estimate, plan, plan_for, plan_only};
use crate::report;
use crate::stage::Stage;
use crate::strike::strike;

const TICK: Duration = Duration::from_millis(200);
/// Before the first fault: all are connected and at work, and no queue is so young that a killed broker would not have it.
const WARM: Duration = Duration::from_secs(8);
/// How long what is left may take, once everything is healed: as long as something moves.
const STILL: Duration = Duration::from_secs(30);
/// So long nothing has moved when everything is handled: what a lost right holds back comes within two heartbeats and a takeover.
const QUIET: Duration = Duration::from_secs(8);
/// The most of it all.
const REST: Duration = Duration::from_secs(600);

/// What struck.
#[derive(Debug, Default)]
struct Struck {
    struck: u64,
    /// Nobody was there to be struck.
    missed: u64,
}

pub(crate) async fn run(args: &Args) -> Result<bool, String> {
    let on = On { backend: args.backend, heartbeat: args.heartbeat, nodes: args.nodes };
    let plan = match (args.minutes, &args.only) {
        (None, None) => plan(args.seed, args.faults, on),
        (None, Some(kind)) => plan_only(kind, args.seed, args.faults, on)?,
        (Some(_), Some(_)) => return Err("`--only` is with `--faults`, not with `--minutes`".to_owned()),
        (Some(minutes), None) => plan_for(args.seed, Duration::from_secs(60 * minutes), on),
    };
    println!("seed {}: {} faults, about {} s", args.seed, plan.len(), estimate(&plan).as_secs());
    if let [first, rest @ ..] = args.backend.lacks() {
        let all = rest.iter().fold((*first).to_owned(), |all, next| all + ", " + next);
        println!("left out, since {} has no such thing: {all}", args.backend.title());
    }
    plan.iter().enumerate().for_each(|(at, fault)| println!("{:3}. {fault}", at + 1));
    if args.dry {
        return Ok(true);
    }
    if args.again {
        return judged_again(args);
    }
    // The last message is sent about when the last fault is over.
    let takes = (WARM + estimate(&plan)).as_secs_f64();
    let rate = (args.messages as f64 / takes).ceil() as u64;
    let stage = Arc::new(Stage::set(args, rate).await?);
    let ran = play(&stage, &plan).await;
    let version = stage.broker.lock().await.version.clone();
    if !args.keep
        && let Err(why) = stage.broker.lock().await.down().await
    {
        stage.trouble(why);
    }
    let struck = ran?;
    let judged = judge::judge(args.backend, &stage.files(), stage.places())?;
    Ok(conclude(&stage, &version, &struck, &judged))
}

/// Starts everybody, lets all faults strike, heals, and waits until everything is handled.
async fn play(stage: &Arc<Stage>, plan: &[Fault]) -> Result<Struck, String> {
    for slot in &stage.slots {
        let mut life = slot.life.lock().await;
        stage.start(slot, &mut life)?;
    }
    let mut live = Live::new();
    watch_for(stage, &mut live, "warming up", WARM).await;
    let (mut struck, mut beside) = (Struck::default(), JoinSet::new());
    for (at, fault) in plan.iter().enumerate() {
        let what = format!("{}/{} {}", at + 1, plan.len(), fault.kind.name());
        watch_for(stage, &mut live, &what, fault.pause).await;
        let (one, all) = (*fault, Arc::clone(stage));
        beside.spawn(async move { strike(&all, one).await });
        while !fault.beside && !beside.is_empty() {
            tokio::select! {
                done = beside.join_next() => struck.count(stage, done)?,
                () = sleep(TICK) => {}
            }
            stage.look_after();
            live.show(stage, &what);
        }
    }
    while let Some(done) = beside.join_next().await {
        struck.count(stage, Some(done))?;
    }
    for proxy in stage.slots.iter().flat_map(|slot| &slot.proxies) {
        proxy.heal().await.map_err(|e| format!("proxy: {e}"))?;
    }
    rest(stage, &mut live).await;
    live.end();
    for slot in &stage.slots {
        let mut life = slot.life.lock().await;
        if let Some(one) = life.as_mut()
            && let Err(why) = one.drain(&stage.history).await
        {
            stage.trouble(why);
        }
        stage.over(slot, &mut life);
    }
    Ok(struck)
}

impl Struck {
    fn count(
        &mut self,
        stage: &Stage,
        done: Option<Result<Result<bool, String>, tokio::task::JoinError>>,
    ) -> Result<(), String> {
        match done {
            None => {}
            Some(Ok(Ok(true))) => self.struck += 1,
            Some(Ok(Ok(false))) => self.missed += 1,
            Some(Ok(Err(why))) => stage.trouble(why),
            Some(Err(error)) => return Err(error.to_string()),
        }
        Ok(())
    }
}

async fn watch_for(stage: &Stage, live: &mut Live, what: &str, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(TICK.min(until - Instant::now())).await;
        stage.look_after();
        live.show(stage, what);
    }
}

/// All faults are over: the producers send what is left, and the consumers handle it, until nothing moves any more.
async fn rest(stage: &Stage, live: &mut Live) {
    let give_up = Instant::now() + REST;
    let (mut moved, mut seen) = (Instant::now(), (0, 0));
    while Instant::now() < give_up {
        for slot in &stage.slots[CONSUMERS..] {
            if let Some(one) = slot.life.lock().await.as_mut() {
                one.say("hurry").await;
            }
        }
        sleep(TICK).await;
        stage.look_after();
        live.show(stage, "healed");
        let now = (stage.sum(|totals| &totals.ok), stage.sum(|totals| &totals.completed));
        if now != seen {
            (moved, seen) = (Instant::now(), now);
        }
        let still = moved.elapsed();
        if (stage.all_sent() && still > QUIET) || still > STILL {
            break;
        }
    }
    if !stage.all_sent() {
        stage.trouble("the producers did not send all".to_owned());
    }
}

/// Says what it came to. Whether it held.
fn conclude(stage: &Stage, version: &str, struck: &Struck, judged: &Judged) -> bool {
    let (args, troubles) = (&stage.args, stage.troubles());
    println!("{}", judged.verdict);
    judged.tell_kills();
    evidence(&stage.folder, &stage.files(), judged);
    let whole = judged.torn == 0 && !stage.history.failed();
    let held = judged.verdict.is_ok() && judged.verdict.is_live() && whole && troubles.is_empty();
    troubles.iter().for_each(|trouble| println!("trouble: {trouble}"));
    let shown = report::write(stage, version, judged, held);
    match &shown {
        Ok(path) => println!("report: {}", path.display()),
        Err(why) => println!("no report: {why}"),
    }
    let held = held && shown.is_ok();
    let [p50, p99, max] = judged.takeover_ms();
    let [calm_p50, calm_p99, calm_max] = judged.calm_ms();
    let m = &judged.measured;
    println!(
        "RESULT cmd=chaos broker={} version={version} nodes={} seed={} sends_ok={} unknown={} handled={} faults={} missed={} \
         takeovers={} takeover_p50_ms={p50} takeover_p99_ms={p99} takeover_max_ms={max} \
         calm_p50_ms={calm_p50} calm_p99_ms={calm_p99} calm_max_ms={calm_max} undrained={} torn={} disordered={} troubles={} {} seconds={} held={held}",
        args.backend.name(),
        args.nodes,
        args.seed,
        m.sends_ok,
        m.unknown,
        m.handled,
        struck.struck,
        struck.missed,
        m.takeovers.len(),
        stage.undrained.load(Ordering::Relaxed),
        judged.torn,
        judged.disordered,
        troubles.len(),
        judged.verdict.result(),
        m.ended / 1_000_000_000,
    );
    held
}

/// Judges the histories that an earlier run has left in its folder.
fn judged_again(args: &Args) -> Result<bool, String> {
    let listed = std::fs::read_dir(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let paths = listed.flatten().map(|entry| entry.path());
    let files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "history")).collect();
    let judged = judge::judge(args.backend, &files, std::collections::HashMap::new())?;
    println!("{}", judged.verdict);
    judged.tell_kills();
    evidence(&args.out, &files, &judged);
    let held = !files.is_empty() && judged.verdict.is_ok() && judged.verdict.is_live() && judged.torn == 0;
    println!("RESULT cmd=chaos judged_again=true {} held={held}", judged.verdict.result());
    Ok(held)
}

/// Of each name the first session in which it was found: what the histories say of it, in a file.
fn evidence(folder: &Path, files: &[PathBuf], judged: &Judged) {
    let mut named = Vec::new();
    for finding in judged.verdict.findings() {
        if named.contains(&finding.fatal) {
            continue;
        }
        named.push(finding.fatal);
        let path = folder.join(format!("{}.txt", finding.fatal));
        let written = excerpt::of(files, finding)
            .and_then(|text| std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display())));
        match written {
            Ok(()) => println!("evidence: {}", path.display()),
            Err(why) => println!("no evidence: {why}"),
        }
    }
}
