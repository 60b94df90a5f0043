//! The harness of Kafka: a topic and a link for each scenario, so that whatever is done to one is no affair of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use convoy_core::{Broker, ChannelSpec, Defect, Error, ErrorKind, Result, SessionId, Topology};
use convoy_kafka::{KafkaBroker, Options};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Handle;

use convoy_conformance::suite::{Fault, Faults, GROUP, Harness, Hook, Shape, Stage, Wishes};

use crate::kafka_group::{Coordinator, Member};
use crate::kafka_wire::{Gate, Wire};

const PATIENCE: Duration = Duration::from_secs(15);
/// How soon a member hears that it is none any more.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A Kafka broker under test.
#[derive(Debug)]
pub(crate) struct Kafka {
    broker: u16,
    run: u32,
    stages: AtomicU32,
}

impl Kafka {
    /// The broker of `CONVOY_KAFKA_URL`, on this machine, as `cargo xtask brokers` starts it.
    pub(crate) fn from_env() -> Self {
        let url = std::env::var("CONVOY_KAFKA_URL").unwrap_or_else(|_| "kafka://127.0.0.1:9092".to_owned());
        let address = url.trim_start_matches("kafka://").split(['/', '?', ',']).next().unwrap_or_default();
        let broker = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        let run = convoy_core::MessageId::random().as_u128() as u32;
        // A port on which nobody listens fails every scenario, with an error that names it.
        Self { broker: broker.unwrap_or_default(), run, stages: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Harness for Kafka {
    fn name(&self) -> String {
        let version = std::env::var("CONVOY_KAFKA_RELEASE").unwrap_or_else(|_| "of an unknown release".to_owned());
        format!("kafka {version}, {}", assignor())
    }

    fn shape(&self) -> Shape {
        Shape::Lanes
    }

    fn hooks(&self) -> &'static [Hook] {
        use Hook::*;
        &[Lose, HandOver, GiveBack, Cut, Silence, Freeze, Foreign]
    }

    async fn stage(&self, wishes: Wishes) -> Result<Stage> {
        let channel = format!("suite-{:08x}-{}", self.run, self.stages.fetch_add(1, Ordering::Relaxed));
        let unreached = |why: std::io::Error| Error::new(ErrorKind::Disconnected, "stage").caused_by(why);
        let wire = Wire::start(self.broker).await.map_err(unreached)?;
        let coordinator = Coordinator::connect(self.broker).map_err(unreached)?;
        let url = format!("kafka://127.0.0.1:{}?assignor={}", wire.port, assignor());
        let options = Options::from_url(&url)?
            .lanes(wishes.lanes)
            .session_timeout(wishes.lock)
            .heartbeat(HEARTBEAT)
            .group_prefix(format!("{channel}."))
            .max_message(wishes.max_message)
            .auto_create(true);
        let broker = Broker::new(KafkaBroker::connect(options).await?);
        broker.provision(&Topology::new().channel(ChannelSpec::new(&channel).group(GROUP))).await?;
        let faults = KafkaFaults {
            wire: Arc::new(wire),
            coordinator,
            runtime: Handle::current(),
            broker: self.broker,
            channel: channel.clone(),
            lanes: wishes.lanes,
        };
        Ok(Stage { broker, channel, faults: Box::new(faults) })
    }
}

/// The tests of other assignors are the same.
fn assignor() -> String {
    std::env::var("CONVOY_KAFKA_ASSIGNOR").unwrap_or_else(|_| "cooperative-sticky".to_owned())
}

struct KafkaFaults {
    wire: Arc<Wire>,
    coordinator: Coordinator,
    runtime: Handle,
    broker: u16,
    channel: String,
    lanes: u32,
}

/// The name of a consumer's client.
fn client(number: usize) -> String {
    format!("convoy-consumer-{number}")
}

impl KafkaFaults {
    /// What is done to a group is done once everybody in it knows what is whose.
    fn until<T>(&self, mut found: impl FnMut(&[Member]) -> Option<T>, group: &str) -> Option<T> {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some(found) = self.coordinator.members(&self.group(group)).ok().and_then(|members| found(&members)) {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// A group is the cluster's: each stage has its own.
    fn group(&self, name: &str) -> String {
        format!("{}.{name}", self.channel)
    }

    fn holder(&self, group: &str, session: &SessionId) -> Option<Member> {
        let lane = session.lane_hash() % self.lanes;
        self.until(|members| members.iter().find(|member| member.lanes.contains(&lane)).cloned(), group)
    }

    fn throw_out(&self, group: &str, member: &Member) -> bool {
        self.coordinator.throw_out(&self.group(group), member).unwrap_or(false)
    }

    /// Its holder is out of the group, and comes back.
    fn lose(&self, group: &str, session: &SessionId) -> bool {
        self.holder(group, session).is_some_and(|holder| self.throw_out(group, &holder))
    }

    /// Its holder is out of the group, and hears of it when somebody else has the lane.
    fn hand_over(&self, group: &str, session: &SessionId) -> bool {
        let Some(holder) = self.holder(group, session) else { return false };
        self.wire.set(&holder.client, Gate::Hold);
        let lane = session.lane_hash() % self.lanes;
        let moved = self.throw_out(group, &holder) && {
            let is_new = |member: &&Member| member.lanes.contains(&lane) && member.client != holder.client;
            self.until(|members| members.iter().find(is_new).map(|_| ()), group).is_some()
        };
        self.wire.set(&holder.client, Gate::Open);
        moved
    }

    /// The connections of a consumer end, which finds no way back for a while; its group does without it.
    fn cut(&self, group: &str, number: usize, while_away: Duration) -> bool {
        let client = client(number);
        let member = self.until(|members| members.iter().find(|member| member.client == client).cloned(), group);
        let Some(member) = member else { return false };
        self.wire.refuse(&client, true);
        let cut = self.wire.set(&client, Gate::Cut) > 0;
        let wire = Arc::clone(&self.wire);
        self.runtime.spawn(async move {
            tokio::time::sleep(while_away).await;
            wire.refuse(&client, false);
        });
        cut && self.throw_out(group, &member)
    }

    /// A raw client sends what no convoy producer would.
    fn foreign(&self, defect: Defect, session: &SessionId, body: &str) -> bool {
        let lane = session.lane_hash() % self.lanes;
        let long = [b'x'; 200];
        let headers = OwnedHeaders::new();
        let (key, lane, headers) = match defect {
            Defect::NoSession => (None, lane, headers),
            Defect::SessionTooLong => (Some(&long[..]), lane, headers),
            Defect::Headers => {
                let header = Header { key: "not-text", value: Some(&[0xff, 0xfe]) };
                (Some(session.as_bytes()), lane, headers.insert(header))
            }
            Defect::Misrouted => {
                let by_crc32 = crc32(session.as_bytes()) % self.lanes;
                let Some(neither) = (0..self.lanes).find(|other| *other != lane && *other != by_crc32) else {
                    return false;
                };
                (Some(session.as_bytes()), neither, headers)
            }
            _ => return false,
        };
        let sends: std::result::Result<BaseProducer, _> = self.raw().create();
        let Ok(sends) = sends else { return false };
        let mut record = BaseRecord::to(&self.channel).partition(lane as i32).payload(body).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        sends.send(record).is_ok() && sends.flush(PATIENCE).is_ok()
    }

    fn raw(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{}", self.broker));
        config
    }
}

impl Faults for KafkaFaults {
    fn inject(&self, group: &str, fault: Fault) -> bool {
        match fault {
            Fault::Lose(session) | Fault::GiveBack(session) => self.lose(group, &session),
            Fault::HandOver(session) => self.hand_over(group, &session),
            Fault::Cut(number, while_away) => self.cut(group, number, while_away),
            Fault::Silence(number) => {
                self.wire.refuse(&client(number), true);
                self.wire.set(&client(number), Gate::Drop) > 0
            }
            Fault::Freeze => self.wire.freeze(true) > 0,
            Fault::Thaw => self.wire.freeze(false) > 0,
            Fault::Foreign(defect, session, body) => self.foreign(defect, &session, body),
            _ => false,
        }
    }
}

impl Drop for KafkaFaults {
    fn drop(&mut self) {
        // What a scenario leaves is files and threads of the broker.
        let (config, channel) = (self.raw(), self.channel.clone());
        let deleted = std::thread::spawn(move || {
            let admin: AdminClient<DefaultClientContext> = config.create().ok()?;
            let found = admin.inner().fetch_metadata(None, PATIENCE).ok()?;
            let of_it = |name: &&str| **name == channel || name.starts_with(&format!("{channel}."));
            let topics: Vec<&str> = found.topics().iter().map(|topic| topic.name()).filter(of_it).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(admin.delete_topics(&topics, &AdminOptions::new().operation_timeout(Some(PATIENCE)))).ok()
        });
        deleted.join().ok();
    }
}

/// CRC-32 as zlib has it, by which clients built on librdkafka place records.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}
