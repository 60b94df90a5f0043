//! RabbitMQ through convoy beside the client library by itself, in one run: publishing, consuming with a handler that does nothing, and how busy handlers are kept that do something.
//! Each figure beside its target; order is judged inside each run. The figures are ratios: what a machine and its broker give changes from run to run.
//!
//! ```text
//! cargo xtask bench rabbitmq [--repeats 3] [--messages 128000] [--records 200] [--broker-pid N]
//! ```
//!
//! With the broker's process id (`target/brokers/*/broker.pid`), what a message costs it is measured, too.

mod raw;
#[path = "../support/run.rs"]
mod run;
mod spread;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use convoy_core::{Broker, ChannelSpec, Message, MessageId, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};

use raw::Raw;
use run::{Load, bare, consume, cpu_time};

pub(crate) use run::Any;

const URL: &str = "amqp://guest:guest@127.0.0.1:5672";
const LANES: u32 = 64;
pub(crate) const PREFETCH: u16 = 500;
/// So many messages the client library by itself acknowledges at once: as many as convoy where nothing holds it up.
pub(crate) const ACK_EVERY: u64 = PREFETCH as u64 / 4;
const SESSIONS: u32 = 1_000;
const WORK: Duration = Duration::from_millis(10);
/// How often members come together.
const SPREADS: usize = 5;
/// The targets.
const KEPT: f64 = 0.9;
const BUSY: f64 = 0.9;
const SPREAD: Duration = Duration::from_secs(5);

struct Args {
    repeats: usize,
    messages: u64,
    records: u32,
    /// The broker, when it is a process of this machine.
    broker: Option<u64>,
}

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("bench rabbitmq: {why}");
            return ExitCode::from(2);
        }
    };
    run::conclude("rabbitmq", || measure(&args))
}

fn arguments() -> Result<Args, String> {
    let mut args = Args { repeats: 3, messages: 128_000, records: 200, broker: None };
    run::options(|name, value| {
        match name {
            "--repeats" => args.repeats = value as usize,
            "--messages" => {
                args.messages = value.next_multiple_of(u64::from(SESSIONS)).next_multiple_of(u64::from(LANES))
            }
            "--records" => args.records = value as u32,
            "--broker-pid" => args.broker = Some(value),
            _ => return false,
        }
        true
    })?;
    Ok(args)
}

/// One of each, in turn, so that what the machine does beside it falls on both alike; the best of each counts.
async fn measure(args: &Args) -> Result<bool, Any> {
    let url = std::env::var("CONVOY_RABBITMQ_URL").unwrap_or_else(|_| URL.to_owned());
    let run = format!("{:08x}", MessageId::random().as_u128() as u32);
    let raw = Raw::open(&url, LANES, &run).await?;
    let options = Options::from_url(&url)?.lanes(LANES).prefetch(PREFETCH);
    let channel = format!("bench-{run}");
    let broker = Broker::new(RabbitBroker::connect(options).await?);
    broker.provision(&Topology::new().channel(ChannelSpec::new(&channel).group("bench"))).await?;

    let properties = properties();
    let mut best = [0.0_f64; 4];
    let mut violations = 0;
    for repeat in 0..args.repeats {
        let raw_publish = raw.publish(args.messages, &properties).await?;
        let records = (args.messages / u64::from(SESSIONS)) as u32;
        let first = repeat as u32 * records;
        let publish = load(&broker, &channel, first, records).await?;
        let raw_cost = Cost::now(args);
        let raw_consume = raw.consume(args.messages, Duration::ZERO).await?;
        let cost = Cost::now(args);
        let consumed = consume(&broker, load_of(&channel, first, records), Duration::ZERO).await?;
        violations += consumed.violations;
        println!(
            "CPU a message: raw {}, convoy {}",
            raw_cost.until(&cost, args.messages),
            cost.until(&Cost::now(args), args.messages)
        );
        println!(
            "publish: raw {raw_publish:.0}/s, convoy {publish:.0}/s   consume: raw {raw_consume:.0}/s, convoy {:.0}/s",
            consumed.rate
        );
        for (best, new) in best.iter_mut().zip([raw_publish, publish, raw_consume, consumed.rate]) {
            *best = best.max(new);
        }
    }
    let first = args.repeats as u32 * (args.messages / u64::from(SESSIONS)) as u32;
    let messages = (u64::from(args.records) * u64::from(SESSIONS)).next_multiple_of(u64::from(LANES));
    raw.publish(messages, &properties).await?;
    load(&broker, &channel, first, args.records).await?;
    let raw_cost = Cost::now(args);
    let raw_worked = raw.consume(messages, WORK).await?;
    let cost = Cost::now(args);
    let worked = consume(&broker, load_of(&channel, first, args.records), WORK).await?;
    let work_cost = cost.until(&Cost::now(args), messages);
    violations += worked.violations;
    let spread = spread::spread(&url, &run, SPREADS).await?;
    let slowest = spread.iter().max().copied().unwrap_or(Duration::MAX);
    let bare = bare(SESSIONS, args.records, WORK).await;
    raw.connection.close(200, "done".into()).await?;
    broker.close(Duration::from_secs(10)).await?;

    let [raw_publish, publish, raw_consume, consumed] = best;
    let (publish_ratio, consume_ratio) = (publish / raw_publish, consumed / raw_consume);
    println!(
        "publish, {SESSIONS} sessions, one unconfirmed message each: {publish_ratio:.2} of the client library awaiting confirms in the same window; target {KEPT}"
    );
    println!(
        "consume, {LANES} lanes, a handler that does nothing: {consume_ratio:.2} of the client library; target {KEPT}"
    );
    println!(
        "work of 10 ms, {SESSIONS} sessions: utilisation {:.3}; a bare loop of as many tasks {bare:.3}; target {BUSY}",
        worked.busy
    );
    let (rate_bound, of_idle) = (worked.rate / raw_worked, worked.rate / raw_consume);
    println!(
        "  {:.0} messages a second: {rate_bound:.2} of the client library with the same work on as many at once, target {KEPT} where that binds, which is where it gives less than {:.0}",
        worked.rate,
        BUSY * f64::from(SESSIONS) / WORK.as_secs_f64()
    );
    println!("  and {of_idle:.2} of what it gives to handlers that do nothing");
    println!("  CPU a message: raw {}, convoy {work_cost}", raw_cost.until(&cost, messages));
    println!(
        "spreading 24 lanes over 3 members, from the first step of the last one to 8/8/8: {spread:.2?}; target {SPREAD:?}"
    );
    let held = publish_ratio >= KEPT
        && consume_ratio >= KEPT
        && (worked.busy >= BUSY || rate_bound >= KEPT)
        && slowest <= SPREAD
        && violations == 0;
    println!(
        "RESULT bench=rabbitmq held={held} publish={publish:.0} publish_ratio={publish_ratio:.3} consume={consumed:.0} consume_ratio={consume_ratio:.3} \
         utilisation={:.4} bare={bare:.4} work_rate={:.0} work_ratio={rate_bound:.3} work_of_idle={of_idle:.3} cpu_us={:.1} spread_ms={} violations={violations}",
        worked.busy,
        worked.rate,
        worked.cpu,
        slowest.as_millis()
    );
    Ok(held)
}

/// What goes with a message, as convoy sends it.
fn properties() -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut headers = FieldTable::default();
    headers.insert("convoy-session".into(), text("session-123"));
    headers.insert("convoy-stamp".into(), text("01a20f66-0089-70c3-ac05-84a07a51a804/12345/12344/1764020000000000"));
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    properties.with_message_id("01a20f66-0089-70c3-ac05-84a07a51a805".into())
}

/// Sends the records of all sessions. Messages a second.
async fn load(broker: &Broker, channel: &str, first: u32, records: u32) -> Result<f64, Any> {
    let producer = broker.producer(channel).await?;
    let begun = Instant::now();
    let mut sending = Vec::new();
    for record in first + 1..=first + records {
        let message = |session: u32| Message::new(format!("session-{session}"), run::body(session, record));
        let messages = (0..SESSIONS).map(message).collect::<Result<Vec<_>, _>>()?;
        producer.ready(Duration::from_secs(60)).await?;
        sending.push(producer.send_all(messages));
    }
    for sending in sending {
        sending.await?;
    }
    let took = begun.elapsed().as_secs_f64();
    producer.close(Duration::from_secs(30)).await?;
    Ok(f64::from(records) * f64::from(SESSIONS) / took)
}

fn load_of(channel: &str, first: u32, records: u32) -> Load<'_> {
    Load { channel, group: "bench", sessions: SESSIONS, first, records }
}

/// What was spent up to a moment, on both sides.
struct Cost {
    client: Duration,
    broker: Option<Duration>,
}

impl Cost {
    fn now(args: &Args) -> Self {
        Self { client: cpu_time(), broker: args.broker.and_then(cpu_time_of) }
    }

    fn until(&self, later: &Self, messages: u64) -> String {
        let each = |spent: Duration| format!("{:.1} µs", spent.as_secs_f64() * 1e6 / messages as f64);
        let client = each(later.client.saturating_sub(self.client));
        match self.broker.zip(later.broker) {
            Some((before, after)) => format!("{client} here and {} in the broker", each(after.saturating_sub(before))),
            None => client,
        }
    }
}

/// What another process has spent, from the Linux kernel's list, whose ticks are hundredths of a second.
fn cpu_time_of(process: u64) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
