//! Kafka through convoy beside a raw reader of the client library, in one run: handlers that do nothing, and handlers that take a while. Each figure beside its target; order is judged inside each
//! run. The figures are ratios, and CPU a record from the process's own accounting: what a machine and its broker give changes from run to run.
//!
//! ```text
//! cargo xtask bench kafka [--repeats 3] [--records 2000] [--keys 1000]
//! ```
//!
//! 8 partitions, records of 100 bytes that are all there before it begins, the broker on the same machine.

mod raw;
#[path = "../support/run.rs"]
mod run;

use std::process::ExitCode;
use std::time::Duration;

use convoy_core::{Broker, ChannelSpec, MessageId, Topology};
use convoy_kafka::{KafkaBroker, Options};

use run::{Any, Load, Run, bare, consume};

const URL: &str = "kafka://127.0.0.1:9092";
const PARTITIONS: u32 = 8;
const SIZE: usize = 100;
/// So many keys more, for the same number of records.
const MANY: u32 = 100;
/// Records a second that the best peer gives to handlers which do nothing, where the raw reader gives `RAW_THERE`.
const PEER: f64 = 636_000.0;
const RAW_THERE: f64 = 2_020_000.0;

/// A handler's work, how many records of each key, and what is to be reached.
struct Level {
    work: Duration,
    records: u32,
    target: Target,
    cpu: f64,
}

enum Target {
    /// Of the raw reader's rate.
    OfRaw(f64),
    Rate(f64),
    Busy(f64),
}

struct Args {
    repeats: usize,
    records: u32,
    keys: u32,
}

fn main() -> ExitCode {
    let mut args = Args { repeats: 3, records: 2_000, keys: 1_000 };
    let given = run::options(|name, value| {
        match name {
            "--repeats" => args.repeats = value as usize,
            "--records" => args.records = value as u32,
            "--keys" => args.keys = value as u32,
            _ => return false,
        }
        true
    });
    if let Err(why) = given {
        eprintln!("bench kafka: {why}");
        return ExitCode::from(2);
    }
    run::conclude("kafka", || measure(&args))
}

/// Each repeat has a group of its own, which begins at the first record.
fn group(repeat: usize) -> String {
    format!("repeat-{repeat}")
}

/// A broker, and topics with records on it.
struct Bench {
    repeats: usize,
    broker: Broker,
    servers: String,
    run: String,
}

impl Bench {
    async fn topic(&self, what: &str, keys: u32, records: u32, size: usize) -> Result<String, Any> {
        let channel = format!("bench-{}-{what}", self.run);
        let spec = (0..self.repeats).fold(ChannelSpec::new(&channel), |spec, repeat| spec.group(group(repeat)));
        self.broker.provision(&Topology::new().channel(spec)).await?;
        let (servers, topic) = (self.servers.clone(), channel.clone());
        tokio::task::spawn_blocking(move || raw::load(&servers, &topic, keys, records, size)).await??;
        Ok(channel)
    }

    async fn raw(&self, topic: &str, records: u64) -> Result<(f64, f64), Any> {
        let (servers, topic) = (self.servers.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || raw::read(&servers, &topic, PARTITIONS as i32, records)).await?
    }
}

/// One of each, in turn, so that what the machine does beside it falls on both alike; the best of each counts.
async fn measure(args: &Args) -> Result<bool, Any> {
    let url = std::env::var("CONVOY_KAFKA_URL").unwrap_or_else(|_| URL.to_owned());
    let run = format!("{:08x}", MessageId::random().as_u128() as u32);
    let servers = url.trim_start_matches("kafka://").split(['/', '?']).next().unwrap_or_default().to_owned();
    let options = Options::from_url(&url)?.lanes(PARTITIONS).group_prefix(format!("bench-{run}."));
    let bench =
        Bench { repeats: args.repeats, broker: Broker::new(KafkaBroker::connect(options).await?), servers, run };
    let millis = Duration::from_millis;
    let levels = [
        Level { work: Duration::ZERO, records: args.records, target: Target::OfRaw(0.65), cpu: 1.2 },
        Level { work: millis(1), records: (args.records / 2).max(1), target: Target::Rate(330_000.0), cpu: 3.0 },
        Level { work: millis(10), records: (args.records / 7).max(1), target: Target::Busy(0.95), cpu: 5.0 },
        Level { work: millis(100), records: (args.records / 50).max(1), target: Target::Busy(0.98), cpu: 10.0 },
    ];
    let mut held = true;
    let mut figures = String::new();
    let mut violations = 0;
    let (mut raw_rate, mut single) = (0.0, 0.0);
    for level in levels {
        let name = level.work.as_millis();
        let topic = bench.topic(&format!("{name}ms"), args.keys, level.records, SIZE).await?;
        let mut best: Option<Run> = None;
        for repeat in 0..args.repeats {
            if let Target::OfRaw(_) = level.target {
                let (rate, cpu) = bench.raw(&topic, u64::from(args.keys) * u64::from(level.records)).await?;
                println!("raw reader: {rate:.0} records a second, {cpu:.2} µs each");
                raw_rate = f64::max(raw_rate, rate);
            }
            let group = group(repeat);
            let load = Load { channel: &topic, group: &group, sessions: args.keys, first: 0, records: level.records };
            let ran = consume(&bench.broker, load, level.work).await?;
            println!("{name} ms: {:.0} records a second, {:.2} µs each, busy {:.3}", ran.rate, ran.cpu, ran.busy);
            violations += ran.violations;
            best = Some(best.map_or(ran, |best| Run {
                rate: best.rate.max(ran.rate),
                busy: best.busy.max(ran.busy),
                cpu: best.cpu.min(ran.cpu),
                violations: 0,
            }));
        }
        let best = best.ok_or("it ran no time")?;
        let reached = match level.target {
            Target::OfRaw(target) => {
                single = best.rate;
                let (of_raw, of_peer) = (best.rate / raw_rate, best.rate / PEER * (RAW_THERE / raw_rate));
                println!(
                    "{name} ms: {of_raw:.2} of the raw reader, target {target}; {of_peer:.2} of the best peer where that reader does 2 M, target 1.5"
                );
                figures += &format!(" raw={raw_rate:.0} of_raw={of_raw:.3} of_peer={of_peer:.2}");
                of_raw >= target && of_peer >= 1.5
            }
            Target::Rate(target) => {
                println!("{name} ms: {:.0} records a second, target {target}", best.rate);
                best.rate >= target
            }
            Target::Busy(target) => {
                let bare = bare(args.keys, level.records, level.work).await;
                println!(
                    "{name} ms: utilisation {:.3}; a bare loop of as many tasks {bare:.3}; target {target}",
                    best.busy
                );
                figures += &format!(" busy{name}={:.4} bare{name}={bare:.4}", best.busy);
                best.busy >= target
            }
        };
        println!("{name} ms: {:.2} µs of CPU a record, target {}", best.cpu, level.cpu);
        figures += &format!(" rate{name}={:.0} cpu{name}={:.2}", best.rate, best.cpu);
        held &= reached && best.cpu <= level.cpu;
    }
    let (keys, records) = (args.keys * MANY, (args.records / MANY).max(1));
    let topic = bench.topic("keys", keys, records, SIZE).await?;
    let many = Load { channel: &topic, group: &group(0), sessions: keys, first: 0, records };
    let many = consume(&bench.broker, many, Duration::ZERO).await?;
    let topic = bench.topic("1k", args.keys, (args.records / 4).max(1), 1_000).await?;
    let large =
        Load { channel: &topic, group: &group(0), sessions: args.keys, first: 0, records: (args.records / 4).max(1) };
    let large = consume(&bench.broker, large, Duration::ZERO).await?;
    violations += many.violations + large.violations;
    bench.broker.close(Duration::from_secs(10)).await?;
    let of_few = many.rate / single;
    println!(
        "{keys} keys: {of_few:.2} of the rate with {}, target 0.6; records of 1 kB: {:.0} a second, {:.2} µs each",
        args.keys, large.rate, large.cpu
    );
    held &= of_few >= 0.6 && violations == 0;
    println!(
        "RESULT bench=kafka held={held}{figures} many_keys={of_few:.3} rate_1k={:.0} cpu_1k={:.2} violations={violations}",
        large.rate, large.cpu
    );
    Ok(held)
}
