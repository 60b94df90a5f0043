//! One device that sends as much as all others together slows none of them: each device is a session, and sessions do not wait for each other. What is seen is the time from a reading's sending
//! to the end of its handling, of the cold devices, in rounds without and with the hot one. Handlers look for trends over a window of readings, which only readings in order show.
//!
//! ```text
//! cargo run --release --example sensors
//! cargo run --release --example sensors -- --url "memory://?lanes=8"
//! cargo run --release --example sensors -- --one-session      # all devices wait behind the hot one, and it says so
//! cargo run --release --example sensors --features rabbitmq -- --url amqp://guest:guest@127.0.0.1:5672
//! ```
//!
//! Ends with a `RESULT` line. The exit status is 0 only when the cold devices' p99 with the hot one is at most twice that without, and every trend was found where it is. The p99 that is
//! judged is that of the median round of each kind, since a machine that stands still for a moment spoils the round that it does so in; that of all rounds is told as well.

#[path = "shared/bar.rs"]
mod bar;
mod shared;

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bar::bar;
use clap::Parser;
use convoy::{ChannelSpec, Failure, Json, Message, Producer, Received, Topology, with_state};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const CHANNEL: &str = "sensors";
const GROUP: &str = "trends";
const COLD: u32 = 30;
/// The number of the hot device.
const HOT: u32 = COLD;
/// Each of the cold devices sends once in so many ticks; so many come with each, one after the other.
const TICKS: u32 = 10;
const TICK: Duration = Duration::from_millis(10);
/// What handling a reading takes.
const WORK: Duration = Duration::from_millis(1);
const WINDOW: usize = 8;
/// The most by which the hot one may raise the cold ones' p99.
const MOST: f64 = 2.0;

#[derive(Serialize, Deserialize)]
struct Reading {
    device: u32,
    number: u32,
    value: f64,
    /// In which round it was sent, and when, from the start on.
    round: usize,
    sent: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trend {
    Flat,
    Rising,
    Falling,
}

/// The last readings of a device, and what they did.
struct Window {
    last: VecDeque<f64>,
    readings: u32,
    trend: Trend,
    /// At which reading which trend began.
    changes: Vec<(u32, Trend)>,
}

impl Window {
    fn new() -> Self {
        Self { last: VecDeque::new(), readings: 0, trend: Trend::Flat, changes: Vec::new() }
    }

    fn push(&mut self, value: f64) {
        self.readings += 1;
        self.last.push_back(value);
        if self.last.len() > WINDOW {
            self.last.pop_front();
        }
        let half = WINDOW / 2;
        let mean = |of: &mut dyn Iterator<Item = &f64>| of.sum::<f64>() / half as f64;
        let rise = mean(&mut self.last.iter().skip(half)) - mean(&mut self.last.iter().take(half));
        let trend = match rise {
            _ if self.last.len() < WINDOW => Trend::Flat,
            rise if rise > 2.0 => Trend::Rising,
            rise if rise < -2.0 => Trend::Falling,
            _ => Trend::Flat,
        };
        if trend != self.trend {
            self.trend = trend;
            self.changes.push((self.readings, trend));
        }
    }
}

/// What a device measures: up, on, down, on, and some noise.
fn value(device: u32, number: u32) -> f64 {
    let mut rng = fastrand::Rng::with_seed(u64::from(device) << 32 | u64::from(number));
    let wave = match (number + 7 * device) % 40 {
        at @ 0..10 => at,
        10..20 => 10,
        at @ 20..30 => 30 - at,
        _ => 0,
    };
    f64::from(wave) + rng.f64() - 0.5
}

/// What handlers share.
struct Watch {
    mine: String,
    begun: Instant,
    devices: Mutex<HashMap<u32, Window>>,
    /// Round, device, time from sending to the end of handling.
    times: Mutex<Vec<(usize, u32, Duration)>>,
    handled: AtomicUsize,
}

impl Watch {
    fn devices(&self) -> MutexGuard<'_, HashMap<u32, Window>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The p99 in milliseconds of these readings.
    fn p99(&self, which: impl Fn(usize, u32) -> bool) -> f64 {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of: Vec<_> = times.iter().filter(|(round, device, _)| which(*round, *device)).map(|of| of.2).collect();
        of.sort();
        let at = (of.len() * 99).div_ceil(100).saturating_sub(1);
        of.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

async fn look(watch: Arc<Watch>, reading: Received<Json<Reading>>) -> Result<(), Failure> {
    if !reading.session().to_string().starts_with(&watch.mine) {
        return Ok(());
    }
    sleep(WORK).await;
    let Reading { device, number, value, round, sent } = *reading.body;
    {
        let mut devices = watch.devices();
        let window = devices.entry(device).or_insert_with(Window::new);
        // One that comes again was looked at.
        if number < window.readings {
            return Ok(());
        }
        window.push(value);
    }
    let took = watch.begun.elapsed().saturating_sub(sent);
    watch.times.lock().unwrap_or_else(PoisonError::into_inner).push((round, device, took));
    watch.handled.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[derive(Parser, Debug)]
struct Args {
    /// The broker
    #[arg(long, default_value = "memory://sensors")]
    url: String,
    /// How many rounds without the hot device, and how many with it
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// All devices are one session
    #[arg(long)]
    one_session: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    shared::exit("sensors", run(&Args::parse()).await)
}

/// The devices, as they send.
struct Devices {
    producer: Producer,
    watch: Arc<Watch>,
    one_session: bool,
    sent: HashMap<u32, u32>,
    total: usize,
}

impl Devices {
    fn read(&mut self, device: u32, round: usize) -> convoy::Result<Message> {
        let number = self.sent.entry(device).or_default();
        let session = if self.one_session { "all".to_owned() } else { device.to_string() };
        let (value, sent) = (value(device, *number), self.watch.begun.elapsed());
        let reading = Reading { device, number: *number, value, round, sent };
        *number += 1;
        self.total += 1;
        Message::json(format!("{}{session}", self.watch.mine), &reading)
    }

    /// Three quarters of a second of readings. The hot device sends what it has in one go, ten times a second.
    async fn round(&mut self, round: usize, hot: bool) -> Result<(), Box<dyn Error>> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out = Vec::new();
        for at in 0..75 {
            tick.tick().await;
            for device in (0..COLD).filter(|device| device % TICKS == at % TICKS) {
                let message = self.read(device, round)?;
                out.push(self.producer.send_all([message]));
            }
            if hot && at % TICKS == 0 {
                let burst: Result<Vec<_>, _> = (0..COLD).map(|_| self.read(HOT, round)).collect();
                out.push(self.producer.send_all(burst?));
            }
        }
        for sending in out {
            sending.await?;
        }
        Ok(())
    }
}

async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let broker = convoy::connect(&args.url).await?;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))).await?;
    let watch = Arc::new(Watch {
        mine: format!("device-{:08x}-", fastrand::u32(..)),
        begun: Instant::now(),
        devices: Mutex::default(),
        times: Mutex::default(),
        handled: AtomicUsize::new(0),
    });
    let consumer = broker.consumer(CHANNEL).group(GROUP).processor().max_concurrent_sessions(64);
    let processor = consumer.start(with_state(Arc::clone(&watch), look)).await?;
    let producer = broker.producer(CHANNEL).await?;
    let one_session = args.one_session;
    let mut devices = Devices { producer, watch: Arc::clone(&watch), one_session, sent: HashMap::new(), total: 0 };

    // The first round is for warming up; then one without the hot device, one with it.
    println!("{COLD} cold devices with 10 readings a second each, and a hot one with {}", COLD * 10);
    for round in 0..=2 * args.rounds as usize {
        devices.round(round, round % 2 == 0).await?;
        let done = || watch.handled.load(Ordering::Relaxed);
        if shared::until(devices.total, Duration::from_secs(30), done).await < devices.total {
            break;
        }
    }
    let (lost, sent) = (devices.total - watch.handled.load(Ordering::Relaxed), devices.total);
    processor.drain().await?;
    devices.producer.close(Duration::from_secs(30)).await?;
    broker.close(Duration::from_secs(10)).await?;
    Ok(tell(args, &watch, &devices.sent, sent, lost))
}

/// Draws it, and says what it came to.
fn tell(args: &Args, watch: &Watch, sent: &HashMap<u32, u32>, total: usize, lost: usize) -> bool {
    let rounds = 2 * args.rounds as usize;
    let of = |hot: bool| (1..=rounds).filter(move |round| (round % 2 == 0) == hot);
    let median = |hot: bool| {
        let mut each: Vec<f64> = of(hot).map(|one| watch.p99(|round, device| round == one && device != HOT)).collect();
        each.sort_by(f64::total_cmp);
        each[each.len() / 2]
    };
    let all = |hot: bool| watch.p99(|round, device| round > 0 && (round % 2 == 0) == hot && device != HOT);
    let (without, with) = (median(false), median(true));
    let hot = watch.p99(|round, device| round > 0 && device == HOT);

    curve(watch, 0);
    let most = without.max(with).max(hot);
    println!("p99 from sending a reading to the end of its handling:");
    for (what, p99) in [("cold, without the hot one", without), ("cold, with the hot one", with), ("the hot one", hot)]
    {
        println!("  {what:<26} {} {p99:>8.2} ms", bar(p99, most, 40));
    }
    let trends = trends(watch, sent);
    let ratio = with / without;
    let held = ratio <= MOST && lost == 0 && trends.1 == 0 && trends.0 > 0;
    println!(
        "RESULT example=sensors devices={} readings={total} lost={lost} trends={} trends_wrong={} p99_without_ms={without:.2} p99_with_ms={with:.2} \
         ratio={ratio:.2} most={MOST} p99_all_without_ms={:.2} p99_all_with_ms={:.2} p99_hot_ms={hot:.2} held={held}",
        COLD + 1,
        trends.0,
        trends.1,
        all(false),
        all(true),
    );
    held
}

/// How many trends were found, and of how many devices they are not those of the readings in order.
fn trends(watch: &Watch, sent: &HashMap<u32, u32>) -> (usize, usize) {
    let devices = watch.devices();
    let (mut found, mut wrong) = (0, 0);
    for (device, sent) in sent {
        let mut expected = Window::new();
        (0..*sent).for_each(|number| expected.push(value(*device, number)));
        let got = devices.get(device).map(|window| window.changes.as_slice()).unwrap_or_default();
        found += got.len();
        wrong += usize::from(got != expected.changes);
    }
    (found, wrong)
}

/// The readings of a device, and where its trends begin.
fn curve(watch: &Watch, device: u32) {
    let devices = watch.devices();
    let Some(window) = devices.get(&device) else { return };
    let readings = window.readings.min(76);
    let step = |number: u32| ((value(device, number) + 1.0) / 12.0 * 8.0).clamp(0.0, 7.0) as usize;
    let line: String = (0..readings).map(|number| ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][step(number)]).collect();
    let mark = |number: u32| match window.changes.iter().find(|(at, _)| *at == number + 1) {
        Some((_, Trend::Rising)) => '↑',
        Some((_, Trend::Falling)) => '↓',
        Some((_, Trend::Flat)) => '-',
        None => ' ',
    };
    println!("what one of them measured, and the trends that were found:\n  {line}");
    println!("  {}", (0..readings).map(mark).collect::<String>().trim_end());
}
