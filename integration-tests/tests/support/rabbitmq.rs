//! The harness of RabbitMQ: a virtual host and a proxy for each scenario, so that whatever is done to one is no affair of the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use convoy_core::{Broker, ChannelSpec, Defect, Result, SessionId, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use tokio::runtime::Handle;

use convoy_conformance::checker;
use convoy_conformance::faults::proxy::{Blackhole, Proxy, Refuse, Way};
use convoy_conformance::history::Side;
use convoy_conformance::suite::{Fault, Faults, GROUP, Harness, Hook, Shape, Stage, Wishes};

use crate::http::{Http, amqp_port, unreached};

const CHANNEL: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(10);

/// A RabbitMQ broker under test.
#[derive(Debug)]
pub(crate) struct Rabbit {
    amqp: u16,
    run: u32,
    stages: AtomicU32,
}

impl Rabbit {
    /// The broker of `CONVOY_RABBITMQ_URL`, on this machine and with the guest user, as `cargo xtask brokers` starts it.
    pub(crate) fn from_env() -> Self {
        let run = convoy_core::MessageId::random().as_u128() as u32;
        Self { amqp: amqp_port(), run, stages: AtomicU32::new(0) }
    }

    fn http(&self) -> Http {
        Http::beside(self.amqp)
    }
}

#[async_trait]
impl Harness for Rabbit {
    fn name(&self) -> String {
        format!("rabbitmq {}", self.http().version().unwrap_or_else(|| "that does not answer".to_owned()))
    }

    fn shape(&self) -> Shape {
        Shape::Lanes
    }

    fn hooks(&self) -> &'static [Hook] {
        use Hook::*;
        &[Lose, HandOver, GiveBack, Cut, Silence, Freeze, Foreign]
    }

    fn judged_by(&self) -> checker::Options {
        checker::Options::partial()
    }

    async fn stage(&self, wishes: Wishes) -> Result<Stage> {
        let vhost = format!("convoy-{:08x}-{}", self.run, self.stages.fetch_add(1, Ordering::Relaxed));
        self.http().ask("PUT", &format!("vhosts/{vhost}"), "")?;
        let upstream = SocketAddr::from(([127, 0, 0, 1], self.amqp));
        let proxy = Proxy::start(upstream, u64::from(self.run)).await.map_err(|e| unreached("proxy", e))?;
        let options = Options::new("127.0.0.1")
            .port(proxy.address().port())
            .vhost(&vhost)
            .lanes(wishes.lanes)
            .heartbeat(Duration::from_secs(wishes.lock.as_secs_f64().ceil().max(1.0) as u64))
            .max_message(wishes.max_message)
            .auto_create(true);
        let broker = Broker::new(RabbitBroker::connect(options).await?);
        broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))).await?;
        let (proxy, runtime) = (Arc::new(proxy), Handle::current());
        let faults = RabbitFaults { proxy, runtime, vhost, http: self.http(), amqp: self.amqp, lanes: wishes.lanes };
        Ok(Stage { broker, channel: CHANNEL.to_owned(), faults: Box::new(faults) })
    }
}

struct RabbitFaults {
    proxy: Arc<Proxy>,
    runtime: Handle,
    vhost: String,
    http: Http,
    amqp: u16,
    lanes: u32,
}

impl RabbitFaults {
    /// The connections of the consumers: they are made in order, behind the one of the broker handle itself.
    fn consumers(&self) -> Vec<u64> {
        let mut living: Vec<u64> = self.proxy.connections().iter().map(|living| living.number).collect();
        living.sort_unstable();
        living.retain(|connection| *connection > 0);
        living
    }

    fn consumer(&self, number: usize) -> Option<u64> {
        self.consumers().get(number).copied()
    }

    /// Who is silenced stays so: it finds no way back once whoever takes over has come in.
    fn shut_behind_the_next(&self) {
        let (proxy, next) = (Arc::clone(&self.proxy), self.proxy.accepted() + 1);
        self.runtime.spawn(async move {
            if proxy.until_accepted(next, PATIENCE).await {
                proxy.refuse(Refuse::Closed).await.ok();
            }
        });
    }

    fn queue(&self, group: &str, session: &SessionId) -> String {
        let lane = session.lane_hash() % 1_024 * self.lanes / 1_024;
        format!("{CHANNEL}.{group}.g1.l{}.p500.lane.{lane}", self.lanes)
    }

    /// Ends the right of whoever has the lane: its connection is reset at both ends.
    fn end_right(&self, group: &str, session: &SessionId) -> Result<bool> {
        let holder = self.holder(&self.queue(group, session))?;
        Ok(holder.is_some_and(|connection| self.proxy.connection(connection).reset(Side::Both) > 0))
    }

    /// The connection of whoever has the lane. One consumer has all of them; of several it is the one that gets what is put into the lane: something large
    /// that means nothing.
    fn holder(&self, queue: &str) -> Result<Option<u64>> {
        const LARGE: usize = 200_000;
        let consumers = self.consumers();
        if let [one] = consumers[..] {
            return Ok(Some(one));
        }
        let got = |connection: u64| {
            let living = self.proxy.connections();
            living.iter().find(|living| living.number == connection).map_or(0, |living| living.to_client)
        };
        let before: Vec<(u64, u64)> = consumers.iter().map(|connection| (*connection, got(*connection))).collect();
        let mut headers = FieldTable::default();
        headers.insert("convoy-probe".into(), AMQPValue::Boolean(true));
        self.publish("", queue.to_owned(), headers, vec![0; LARGE])?;
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            let holder = before.iter().find(|(connection, before)| got(*connection) >= before + LARGE as u64);
            if let Some((connection, _)) = holder {
                return Ok(Some(*connection));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    /// A raw client sends a message. Faults are injected from code that does not wait, so it has a thread of its own.
    fn publish(&self, exchange: &'static str, key: String, headers: FieldTable, body: Vec<u8>) -> Result<bool> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{}/{}", self.amqp, self.vhost);
        let send = async move {
            let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let confirm = channel.basic_publish(exchange.into(), key.as_str().into(), options, &body, properties);
            let taken = matches!(confirm.await?.await?, Confirmation::Ack(None));
            connection.close(200, "sent".into()).await?;
            lapin::Result::Ok(taken)
        };
        let sent = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async { tokio::time::timeout(PATIENCE, send).await }).ok()?.ok()
        });
        Ok(sent.join().ok().flatten().unwrap_or(false))
    }

    /// A raw client sends what no convoy producer would.
    fn foreign(&self, defect: Defect, session: &SessionId, body: &str) -> Result<bool> {
        let slot = session.lane_hash() % 1_024;
        let mut headers = FieldTable::default();
        let text = |bytes: &[u8]| AMQPValue::LongString(LongString::from(bytes.to_vec()));
        let mut key = slot;
        match defect {
            Defect::NoSession => {}
            Defect::SessionTooLong => _ = headers.insert("convoy-session".into(), text(&[b'x'; 200])),
            Defect::Headers => {
                headers.insert("convoy-session".into(), text(session.as_bytes()));
                headers.insert("not text".into(), text(&[0xff, 0xfe]));
            }
            Defect::Misrouted if self.lanes > 1 => {
                headers.insert("convoy-session".into(), text(session.as_bytes()));
                key = (slot + 1_024 / self.lanes) % 1_024;
            }
            _ => return Ok(false),
        }
        self.publish(CHANNEL, key.to_string(), headers, body.as_bytes().to_vec())
    }

    fn try_inject(&self, group: &str, fault: Fault) -> Result<bool> {
        Ok(match fault {
            Fault::Lose(session) | Fault::HandOver(session) | Fault::GiveBack(session) => {
                self.end_right(group, &session)?
            }
            Fault::Cut(number, _) => {
                self.consumer(number).is_some_and(|connection| self.proxy.connection(connection).reset(Side::Both) > 0)
            }
            Fault::Silence(number) => {
                self.shut_behind_the_next();
                self.consumer(number).is_some_and(|connection| {
                    self.proxy.connection(connection).blackhole(Way::Both, Blackhole::Drop) > 0
                })
            }
            Fault::Freeze => self.proxy.all().blackhole(Way::Both, Blackhole::Hold) > 0,
            Fault::Thaw => self.proxy.all().open(Way::Both) > 0,
            Fault::Foreign(defect, session, body) => self.foreign(defect, &session, body)?,
            _ => false,
        })
    }
}

impl Faults for RabbitFaults {
    fn inject(&self, group: &str, fault: Fault) -> bool {
        self.try_inject(group, fault).unwrap_or(false)
    }
}

impl Drop for RabbitFaults {
    fn drop(&mut self) {
        // What a scenario leaves fills the memory of the broker in the end.
        self.http.ask("DELETE", &format!("vhosts/{}", self.vhost), "").ok();
    }
}
