//! What is tried, on which broker.

use std::time::Duration;

use convoy_core::{Broker, ChannelSpec, Error, ErrorKind, Finding, Message, MessageId, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::Stage;
use crate::broker::{Kind, Started};

pub(crate) type Case = for<'a> fn(&'a Stage, &'a Started) -> BoxFuture<'a, Result<(), String>>;

macro_rules! cases {
    ($($name:literal on $kind:ident: $case:ident;)*) => {
        pub(crate) const ALL: &[(&str, Kind, Case)] = &[$(($name, Kind::$kind, |stage, at| $case(stage, at).boxed())),*];
    };
}

cases! {
    "a-broker-of-a-named-issuer-is-worked-with" on Good: works;
    "its-url-says-the-same" on Good: works_by_url;
    "an-unknown-issuer-is-refused" on Good: unknown_issuer;
    "the-systems-issuers-alone-do-not-do" on Good: systems_issuers;
    "a-port-without-tls-is-refused" on Good: plain_port;
    "plain-text-to-a-port-of-tls-is-refused" on Good: plain_text;
    "a-wrong-password-is-refused-and-not-shown" on Good: wrong_password;
    "the-http-api-is-asked-over-tls" on Good: http_api;
    "an-http-api-of-an-unknown-issuer-is-told" on Good: http_api_of_unknown_issuer;
    "the-name-of-another-host-is-refused" on OtherName: other_name;
    "an-expired-certificate-is-refused" on Expired: expired;
    "a-client-with-a-certificate-is-let-in" on AsksClients: client;
    "a-client-without-one-is-refused" on AsksClients: no_client_certificate;
    "a-client-of-another-issuer-is-refused" on AsksClients: other_client;
    "a-client-whose-certificate-expired-is-refused" on AsksClients: expired_client;
    "a-key-of-another-certificate-is-refused" on AsksClients: other_key;
}

/// A group's thousand bindings take seconds where the disk is busy.
const LIMIT: Duration = Duration::from_secs(120);
const HOSTS: &[&str] = &["localhost", "127.0.0.1"];

/// TLS to this broker, its issuer known.
fn options(stage: &Stage, at: &Started, host: &str) -> Options {
    Options::new(host).port(at.tls).tls(true).tls_ca(stage.file("ca.pem")).lanes(2)
}

async fn works(stage: &Stage, at: &Started) -> Result<(), String> {
    for host in HOSTS {
        work(RabbitBroker::connect(options(stage, at, host)).await).await.map_err(|why| format!("{host}: {why}"))?;
    }
    Ok(())
}

async fn works_by_url(stage: &Stage, at: &Started) -> Result<(), String> {
    let ca = stage.file("ca.pem");
    let url = format!("amqps://guest:guest@localhost:{}?lanes=2&tls_ca={}", at.tls, ca.display());
    work(RabbitBroker::from_url(&url).await).await
}

async fn unknown_issuer(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(options(stage, at, "localhost").tls_ca(stage.file("other-ca.pem")), stage, &["UnknownIssuer"]).await
}

async fn systems_issuers(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(Options::new("localhost").port(at.tls).tls(true), stage, &["UnknownIssuer"]).await
}

async fn plain_port(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(options(stage, at, "localhost").port(at.amqp), stage, &["does not speak TLS"]).await
}

async fn plain_text(_: &Stage, at: &Started) -> Result<(), String> {
    let options = Options::new("localhost").port(at.tls);
    let error = no(RabbitBroker::connect(options).await)?;
    says(&error, &["amqps://"])
}

async fn wrong_password(stage: &Stage, at: &Started) -> Result<(), String> {
    let options = options(stage, at, "localhost").credentials("guest", "a-secret-word");
    let error = no(RabbitBroker::connect(options).await)?;
    if error.kind() != ErrorKind::Unauthorized || shown(&error).contains("a-secret-word") {
        return Err(shown(&error));
    }
    says(&error, &["ACCESS_REFUSED"])
}

/// The HTTP API, over TLS.
fn https(at: &Started) -> String {
    format!("https://localhost:{}", at.tls + 1_000)
}

async fn http_api(stage: &Stage, at: &Started) -> Result<(), String> {
    let found = found(options(stage, at, "localhost").management(https(at))).await?;
    if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
}

async fn http_api_of_unknown_issuer(_: &Stage, at: &Started) -> Result<(), String> {
    let found = found(Options::new("localhost").port(at.amqp).lanes(2).management(https(at))).await?;
    match &found[..] {
        [one] if one.code == "management" && one.what.contains("UnknownIssuer") => Ok(()),
        _ => Err(format!("{found:?}")),
    }
}

/// What is found on a channel of its own.
async fn found(options: Options) -> Result<Vec<Finding>, String> {
    let broker = Broker::new(RabbitBroker::connect(options).await.map_err(|e| shown(&e))?);
    let topology = Topology::new().channel(ChannelSpec::new(format!("tls-{}", MessageId::random())).group("g"));
    broker.provision(&topology).await.map_err(|e| shown(&e))?;
    let found = broker.check(&topology).await.map_err(|e| shown(&e))?;
    broker.close(LIMIT).await.map_err(|e| shown(&e))?;
    Ok(found)
}

async fn other_name(stage: &Stage, at: &Started) -> Result<(), String> {
    for host in HOSTS {
        refused(options(stage, at, host), stage, &["not valid for name", host, "broker.example"]).await?;
    }
    Ok(())
}

async fn expired(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(options(stage, at, "localhost"), stage, &["certificate expired"]).await
}

/// With a client's certificate of this name.
fn with_client(stage: &Stage, at: &Started, name: &str) -> Options {
    let (cert, key) = (stage.file(&format!("{name}.pem")), stage.file(&format!("{name}.key")));
    options(stage, at, "localhost").tls_cert(cert).tls_key(key)
}

async fn client(stage: &Stage, at: &Started) -> Result<(), String> {
    work(RabbitBroker::connect(with_client(stage, at, "client")).await).await?;
    let file = |name: &str| stage.file(name).display().to_string();
    let url = format!(
        "amqps://guest:guest@localhost:{}?lanes=2&tls_ca={}&tls_cert={}&tls_key={}",
        at.tls,
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    work(RabbitBroker::from_url(&url).await).await
}

async fn no_client_certificate(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(options(stage, at, "localhost"), stage, &["asks for a certificate", "tls_cert"]).await
}

async fn other_client(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(with_client(stage, at, "other-client"), stage, &["the broker does not accept", "tls_cert"]).await
}

async fn expired_client(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(with_client(stage, at, "expired-client"), stage, &["the broker does not accept", "tls_cert"]).await
}

async fn other_key(stage: &Stage, at: &Started) -> Result<(), String> {
    refused(with_client(stage, at, "client").tls_key(stage.file("other-client.key")), stage, &["tls_key"]).await
}

/// Sends and consumes on a channel of its own.
async fn work(connected: convoy_core::Result<RabbitBroker>) -> Result<(), String> {
    let broker = Broker::new(connected.map_err(|e| shown(&e))?);
    let channel = format!("tls-{}", MessageId::random());
    tokio::time::timeout(LIMIT, send_and_consume(&broker, &channel))
        .await
        .map_err(|_| "it did not end in time".to_owned())?
        .map_err(|e| shown(&e))
}

async fn send_and_consume(broker: &Broker, channel: &str) -> convoy_core::Result<()> {
    let none = || Error::new(ErrorKind::Timeout, "consume").because("nothing came");
    broker.provision(&Topology::new().channel(ChannelSpec::new(channel).group("g"))).await?;
    let producer = broker.producer(channel).await?;
    for n in 0..20 {
        producer.send(Message::new("s", n.to_string())?).await?;
    }
    let consumer = broker.consumer(channel).group("g").open().await?;
    let mut session = consumer.accept_next(LIMIT).await?.ok_or_else(none)?;
    for n in 0..20 {
        let delivery = session.next::<String>(LIMIT).await?.ok_or_else(none)?;
        if delivery.body != n.to_string() {
            return Err(Error::new(ErrorKind::Unknown, "consume").because(format!("{} instead of {n}", delivery.body)));
        }
        delivery.complete().await?;
    }
    session.release(LIMIT).await?;
    consumer.close(LIMIT).await?;
    broker.close(LIMIT).await
}

/// Connecting is refused for good, by these words, and none of them is a secret.
async fn refused(options: Options, stage: &Stage, words: &[&str]) -> Result<(), String> {
    let debug = format!("{options:?}");
    let error = no(RabbitBroker::connect(options.credentials("guest", "a-secret-word")).await)?;
    let shown = format!("{} {debug}", shown(&error));
    let keys =
        ["client.key", "other-client.key", "expired-client.key"].map(|name| std::fs::read_to_string(stage.file(name)));
    for key in keys {
        let key = key.map_err(|e| e.to_string())?;
        if let Some(line) = key.lines().find(|line| !line.starts_with("-----") && shown.contains(line)) {
            return Err(format!("a line of a key ({line}) is in: {shown}"));
        }
    }
    if shown.contains("a-secret-word") {
        return Err(format!("the password is in: {shown}"));
    }
    if error.is_retryable() {
        return Err(format!("trying again is offered: {shown}"));
    }
    says(&error, words)
}

fn no<T>(connected: convoy_core::Result<T>) -> Result<Error, String> {
    connected.err().ok_or_else(|| "it connected".to_owned())
}

fn shown(error: &Error) -> String {
    format!("{error} {error:?}")
}

fn says(error: &Error, words: &[&str]) -> Result<(), String> {
    println!("    {error}");
    let text = error.to_string();
    match words.iter().find(|word| !text.contains(**word)) {
        Some(word) => Err(format!("`{word}` is not in: {}", shown(error))),
        None => Ok(()),
    }
}
