//! What every client of the client library is told.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::config::Options;
use crate::error;

/// The properties that all clients share.
fn base(options: &Options, role: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    let millis = |duration: std::time::Duration| duration.as_millis().max(10).to_string();
    config
        .set("bootstrap.servers", options.bootstrap())
        .set("client.id", format!("{}-{role}", options.client_id))
        .set("allow.auto.create.topics", "false")
        .set("socket.timeout.ms", millis(options.answer_limit))
        .set("socket.connection.setup.timeout.ms", millis(options.answer_limit.max(std::time::Duration::from_secs(1))))
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Consumers and producers learn of new partitions by it.
        .set("topic.metadata.refresh.interval.ms", millis(options.lane_check))
        .set("topic.metadata.propagation.max.ms", "5000")
        .set_log_level(RDKafkaLogLevel::Info);
    match (options.tls, &options.credentials) {
        (false, None) => config.set("security.protocol", "plaintext"),
        (false, Some(_)) => config.set("security.protocol", "sasl_plaintext"),
        (true, None) => config.set("security.protocol", "ssl"),
        (true, Some(_)) => config.set("security.protocol", "sasl_ssl"),
    };
    if let Some((user, password)) = &options.credentials {
        config.set("sasl.mechanism", options.sasl.name());
        config.set("sasl.username", user).set("sasl.password", password);
    }
    if options.tls {
        config.set("enable.ssl.certificate.verification", "true").set("ssl.endpoint.identification.algorithm", "https");
        let files = [
            ("ssl.ca.location", &options.tls_ca),
            ("ssl.certificate.location", &options.tls_cert),
            ("ssl.key.location", &options.tls_key),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
    }
    config
}

/// Last, so that it wins over what is only a good choice.
fn unguarded(options: &Options, mut config: ClientConfig) -> ClientConfig {
    for (name, value) in &options.unguarded {
        config.set(name, value);
    }
    config
}

/// That of a client which asks and tells.
pub(crate) fn plain(options: &Options, role: &str) -> ClientConfig {
    unguarded(options, base(options, role))
}

/// A consumer's.
pub(crate) fn consumer(options: &Options, role: &str, group: &str) -> ClientConfig {
    let mut config = base(options, role);
    let millis = |duration: std::time::Duration| duration.as_millis().to_string();
    config
        .set("group.id", format!("{}{group}", options.group_prefix))
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", options.assignor.name())
        .set("session.timeout.ms", millis(options.session_timeout))
        .set("heartbeat.interval.ms", millis(options.heartbeat))
        .set("max.poll.interval.ms", millis(options.max_poll_interval))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("queued.min.messages", options.prefetch.to_string())
        .set("queued.max.messages.kbytes", (options.prefetch_bytes / 1024).max(1).to_string())
        .set("fetch.message.max.bytes", (options.max_message.max(1 << 20)).to_string())
        // A fetch that waits for one lane holds up the others of that broker, and one whose queue was full for a moment starts again only after this.
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100");
    unguarded(options, config)
}

/// A producer's. Without a limit a record is sent until it is known what became of it: what was given up while it was on its way could still land, behind what was sent after it.
pub(crate) fn producer(options: &Options, role: &str, limit: Option<std::time::Duration>) -> ClientConfig {
    let mut config = base(options, role);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "1")
        .set("message.timeout.ms", limit.map_or("0".to_owned(), |limit| limit.as_millis().max(10).to_string()))
        .set("request.timeout.ms", options.answer_limit.as_millis().max(10).to_string())
        .set("message.max.bytes", (options.max_message + (64 << 10)).to_string());
    unguarded(options, config)
}

/// A line of the client library's own log.
pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, line: &str) {
    use RDKafkaLogLevel as L;
    match level {
        L::Emerg | L::Alert | L::Critical | L::Error => tracing::error!(target: "librdkafka", fac, "{line}"),
        L::Warning => tracing::warn!(target: "librdkafka", fac, "{line}"),
        L::Notice | L::Info => tracing::info!(target: "librdkafka", fac, "{line}"),
        L::Debug => tracing::debug!(target: "librdkafka", fac, "{line}"),
    }
}

/// An error that is told of no request.
pub(crate) fn told(error: &KafkaError, reason: &str) {
    if error::is_fatal(error) {
        tracing::error!(target: "librdkafka", %error, reason, "the client cannot go on");
    } else {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}
