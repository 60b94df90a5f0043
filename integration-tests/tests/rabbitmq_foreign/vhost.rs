//! A virtual host for one test.

use std::time::Duration;

use convoy_core::Broker;
use convoy_rabbitmq::{Entry, Options, RabbitBroker};

use crate::http::{Http, amqp_port};

pub(crate) const CHANNEL: &str = "orders";
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const LANES: u32 = 8;

/// Removed with all that is in it.
pub(crate) struct Vhost {
    name: String,
    amqp: u16,
}

impl Vhost {
    pub(crate) fn new() -> Self {
        let (name, amqp) = (format!("convoy-foreign-{}", convoy_core::MessageId::random()), amqp_port());
        Http::beside(amqp).ask("PUT", &format!("vhosts/{name}"), "").expect("a broker that answers");
        Self { name, amqp }
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{}", self.amqp, self.name)
    }

    /// Deletes one of its `queues` or `exchanges`.
    pub(crate) fn delete(&self, what: &str, name: &str) {
        Http::beside(self.amqp).ask("DELETE", &format!("{what}/{}/{name}", self.name), "").expect("it was there");
    }

    pub(crate) fn options(&self, entry: Entry) -> Options {
        Options::new("127.0.0.1").port(self.amqp).vhost(&self.name).lanes(LANES).entry(entry)
    }

    pub(crate) async fn broker(&self, entry: Entry) -> Broker {
        Broker::new(RabbitBroker::connect(self.options(entry)).await.expect("a broker that answers"))
    }

    /// The broker's version: its first two numbers.
    pub(crate) fn version(&self) -> (u32, u32) {
        let version = Http::beside(self.amqp).version().expect("a broker that answers");
        let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("a number"), numbers.next().expect("a number"))
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        Http::beside(self.amqp).ask("DELETE", &format!("vhosts/{}", self.name), "").ok();
    }
}
