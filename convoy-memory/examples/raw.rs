//! How fast the bare broker is: a loop over its sink and its source on one thread, no engine between.
//!
//! `cargo run --release -p convoy-memory --example raw`

use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_core::backend::{Above, Backend, Command, ConsumerSpec, Event, Progress, Run, Source, Ticket};
use convoy_core::{Content, Moment, Result, SessionId};
use convoy_memory::MemoryBroker;

const MESSAGES: u64 = 2_000_000;
const BATCH: usize = 512;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    for sessions in [1_000, 100_000] {
        for (what, url, release) in [
            ("sessions, kept", "memory://?capacity=2000000&pending_accepts=64", false),
            ("sessions, released when done", "memory://?capacity=2000000&pending_accepts=64", true),
            ("lanes", "memory://?capacity=2000000&lanes=8", false),
        ] {
            let broker = MemoryBroker::from_url(url)?;
            let (rate, cpu) = run(&broker, sessions, release).await?;
            println!("{what:30} {sessions:7} sessions  {:5.2} M messages/s  {cpu:.0} ns CPU a message", rate / 1e6);
        }
    }
    Ok(())
}

async fn run(broker: &MemoryBroker, sessions: usize, release: bool) -> Result<(f64, f64)> {
    let sink = broker.producer("c").await?;
    let source = broker.consumer(&ConsumerSpec::new("c", "g")).await?;
    source.submit(&mut vec![Command::Accept { wanted: 64 }]);
    let ids: Vec<SessionId> = (0..sessions).map(|n| SessionId::new(format!("session-{n}"))).collect::<Result<_>>()?;
    let contents: Vec<Arc<Content>> = (0..BATCH).map(|_| Arc::new(Content::new(vec![0_u8; 64]))).collect();
    let (started, cpu) = (Instant::now(), cpu_time());
    let (mut sent, mut settled) = (0, 0);
    let (mut runs, mut outcomes, mut events, mut commands) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while settled < MESSAGES {
        if sent < MESSAGES {
            for content in &contents {
                let session = ids[(sent as usize * 7919) % sessions].clone();
                let messages = vec![Arc::clone(content)];
                runs.push(Run { ticket: Ticket(sent), session, messages, until: Moment::NEVER });
                sent += 1;
            }
            sink.submit(&mut runs);
            sink.next(&mut outcomes).await?;
            outcomes.clear();
        }
        source.next(&mut events).await?;
        settled += answer(&*source, &mut events, &mut commands, release, sent < MESSAGES);
    }
    let wall = started.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu).as_nanos() as f64 / settled as f64;
    Ok((settled as f64 / wall, cpu))
}

/// Settles what came: sessions each, lanes a watermark for every turn. Renews what was granted.
fn answer(
    source: &dyn Source,
    events: &mut Vec<Event>,
    commands: &mut Vec<Command>,
    release: bool,
    _more: bool,
) -> u64 {
    let lanes = source.session_state().is_none();
    let mut handled = 0;
    let mut events = events.drain(..).peekable();
    while let Some(event) = events.next() {
        match event {
            Event::Granted { grant, .. } => commands.push(Command::Renew { grant }),
            Event::Delivered { grant, message } => {
                handled += 1;
                let same = matches!(events.peek(), Some(Event::Delivered { grant: next, .. }) if *next == grant);
                let watermark = message.position.value + 1;
                if !lanes || !same {
                    let progress = Progress { watermark, end: watermark, above: Above::Nothing };
                    commands.push(Command::Settle { grant, ticket: Ticket(watermark), progress });
                }
                if release && !same {
                    commands.push(Command::Release { grant });
                }
            }
            _ => {}
        }
    }
    drop(events);
    source.submit(commands);
    handled
}

/// What this process has used of its processors so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}
