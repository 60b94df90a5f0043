//! Users who may not do everything: what they may not, and on what, is said before it hurts.

use std::sync::Arc;

use convoy_core::{Broker, ErrorKind, Finding, Severity};
use convoy_rabbitmq::RabbitBroker;

use crate::stage::{CHANNEL, Stage, connect, consumer, lane, message, topology};

crate::traps![
    a_user_with_all_it_needs_is_found_nothing_wrong_with,
    configure_that_is_missing_is_named,
    write_that_is_missing_is_named,
    read_that_is_missing_is_named,
];

const LANES: u32 = 2;

/// A user of its own, who may configure, write and read what these match.
struct User<'a> {
    stage: &'a Stage,
    name: String,
}

impl<'a> User<'a> {
    fn new(stage: &'a Stage, configure: &str, write: &str, read: &str) -> Self {
        let name = format!("{}-user", stage.vhost());
        stage.ask("PUT", &format!("users/{name}"), r#"{"password":"pass","tags":""}"#);
        let user = Self { stage, name };
        user.may(configure, write, read);
        user
    }

    fn may(&self, configure: &str, write: &str, read: &str) {
        let body = serde_json::json!({ "configure": configure, "write": write, "read": read });
        let path = format!("permissions/{}/{}", self.stage.vhost(), self.name);
        self.stage.ask("PUT", &path, &body.to_string());
    }

    async fn connect(&self) -> Broker {
        connect(self.stage.options(LANES).credentials(&self.name, "pass")).await
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.stage.ask("DELETE", &format!("users/{}", self.name), "");
    }
}

/// What a consumer that makes nothing needs, as the documentation of the crate has it.
const CONFIGURE: &str = r"^(amq\.gen-.*|convoy\.link\..*)$";
const WRITE: &str = r"^(amq\.default|orders|convoy\.orders\.workers\.members|amq\.gen-.*)$";
const READ: &str = r"^(orders\.workers\..*|convoy\.orders\.workers\.members|amq\.gen-.*|convoy\.link\..*)$";

fn about<'a>(found: &'a [Finding], permission: &str, resource: &str) -> &'a Finding {
    let of = |it: &&Finding| it.what.contains(&format!("`{permission}`")) && it.what.contains(resource);
    found.iter().find(of).unwrap_or_else(|| panic!("`{permission}` on {resource} is not named: {found:#?}"))
}

async fn a_user_with_all_it_needs_is_found_nothing_wrong_with(stage: Arc<Stage>) {
    stage.provisioned(stage.options(LANES)).await;
    let user = User::new(&stage, CONFIGURE, WRITE, READ);
    let broker = user.connect().await;
    let found = broker.check(&topology()).await.expect("checked");
    // Without `configure` on what is there its settings cannot be compared, and nothing else is wrong.
    assert!(found.iter().all(|it| it.severity == Severity::Note), "{found:#?}");
    let producer = broker.producer(CHANNEL).await.expect("producer");
    producer.send(message("s0/0")).await.expect("sent");
    let seen = crate::seen::Seen::default();
    let gate = crate::members::Gate::open();
    let processor = gate.start(&broker, &seen).await;
    crate::stage::until("it is settled", || seen.settled() == 1).await;
    assert!(processor.drain().await.expect("drained").drained);
}

async fn configure_that_is_missing_is_named(stage: Arc<Stage>) {
    let user = User::new(&stage, "^$", WRITE, READ);
    // Nothing can be published without a queue that is the connection's own.
    let refused = RabbitBroker::connect(stage.options(LANES).credentials(&user.name, "pass")).await.err();
    let refused = refused.expect("refused");
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("configure") && said.contains("convoy.link."), "{said}");
    // With that, the channel cannot be made.
    user.may(CONFIGURE, WRITE, READ);
    let broker = user.connect().await;
    let refused = broker.provision(&topology()).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("configure") && said.contains(CHANNEL), "{said}");
    // What is there cannot be compared, and a consumer cannot hear of the others of its group.
    stage.provisioned(stage.options(LANES)).await;
    let found = broker.check(&topology()).await.expect("checked");
    assert_eq!(about(&found, "configure", &lane(LANES, 0)).severity, Severity::Note);
    user.may(r"^convoy\.link\..*$", WRITE, READ);
    let found = broker.check(&topology()).await.expect("checked");
    assert_eq!(about(&found, "configure", "amq.gen-").severity, Severity::Warning);
}

async fn write_that_is_missing_is_named(stage: Arc<Stage>) {
    stage.provisioned(stage.options(LANES)).await;
    let user = User::new(&stage, CONFIGURE, r"^amq\.gen-.*$", READ);
    let broker = user.connect().await;
    let refused = broker.producer(CHANNEL).await.expect_err("a producer says so at its start");
    assert_eq!((refused.kind(), refused.context("channel")), (ErrorKind::Unauthorized, Some(CHANNEL)), "{refused:?}");
    assert!(refused.to_string().contains("write"), "{refused}");
    let found = broker.check(&topology()).await.expect("checked");
    assert_eq!(about(&found, "write", CHANNEL).severity, Severity::Warning);
    assert_eq!(about(&found, "write", "amq.default").severity, Severity::Warning);
    assert_eq!(about(&found, "write", "convoy.orders.workers.members").severity, Severity::Warning);
    // Taken away from a producer that has started. The broker remembers for a while what an AMQP channel was allowed, so this one has not sent yet.
    user.may(CONFIGURE, WRITE, READ);
    let broker = user.connect().await;
    let producer = broker.producer(CHANNEL).await.expect("producer");
    user.may(CONFIGURE, r"^amq\.gen-.*$", READ);
    let failed = producer.send(message("s0/0")).await.expect_err("it is refused");
    let cause = format!("{failed:?}");
    assert!(cause.contains("ACCESS_REFUSED") && cause.contains(CHANNEL), "{cause}");
}

async fn read_that_is_missing_is_named(stage: Arc<Stage>) {
    stage.provisioned(stage.options(LANES)).await;
    let user = User::new(&stage, CONFIGURE, WRITE, r"^(amq\.gen-.*|convoy\..*)$");
    let broker = user.connect().await;
    let found = broker.check(&topology()).await.expect("checked");
    assert_eq!(about(&found, "read", &lane(LANES, 0)).severity, Severity::Breaks);
    let refused = consumer(&broker).open().await.expect_err("a consumer says so at its start");
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("read") && said.contains(&lane(LANES, 0)), "{said}");
    // Of one lane only: the consumer ends, and names it.
    user.may(CONFIGURE, WRITE, r"^(amq\.gen-.*|convoy\..*|orders\.workers\.pin|.*\.lane\.0)$");
    // Newer brokers do not show it a queue with which it may do nothing, so it does not even start.
    let ended = match consumer(&broker).open().await {
        Ok(opened) => opened.accept_next(crate::stage::PATIENCE).await.expect_err("an error, and no waiting"),
        Err(refused) => refused,
    };
    assert_eq!(ended.kind(), ErrorKind::Unauthorized, "{ended:?}");
    assert!(ended.to_string().contains("`read`") && ended.to_string().contains(&lane(LANES, 1)), "{ended}");
    // The members' exchange: balance is lost, and it is said.
    user.may(CONFIGURE, WRITE, r"^(amq\.gen-.*|orders\.workers\..*)$");
    let found = broker.check(&topology()).await.expect("checked");
    assert_eq!(about(&found, "read", "convoy.orders.workers.members").severity, Severity::Warning);
}
