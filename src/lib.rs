//! convoy: messages that share a session id are handled in order, one at a time, by one holder; different sessions in parallel.
//!
//! This crate is what programs depend on. It re-exports `convoy-core` and the backends whose features are on, and connects by URL:
//!
//! ```
//! use convoy::{Failure, Message, Received};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = convoy::connect("memory://demo").await?;
//! let orders = broker.producer("orders").await?;
//! orders.send(Message::new("order-17", "paid")?).await?;
//!
//! let shutdown = tokio::time::sleep(std::time::Duration::from_millis(50)); // a service says convoy::shutdown_signal()
//! broker.consumer("orders").processor().run_until(shutdown, bill).await?;
//! # Ok(()) }
//!
//! async fn bill(order: Received<String>) -> Result<(), Failure> {
//!     println!("{}: {}", order.session(), order.body);
//!     Ok(())
//! }
//! ```
//!
//! | feature | on by default | gives |
//! |---|---|---|
//! | `memory` | yes | `memory://name`, the broker in this process, and the module `memory` |
//! | `kafka` | no | `kafka://host:9092`, Kafka, and the module `kafka`; builds C |
//! | `kafka-ssl`, `kafka-ssl-vendored`, `kafka-zstd` | no | the same with TLS and SCRAM, by the system's OpenSSL or by one that is built; with records that zstd compressed |
//! | `rabbitmq` | no | `amqp://user:password@host`, RabbitMQ, and the module `rabbitmq` |
//! | `rabbitmq-tls` | no | the same with TLS: `amqps://` |
//! | `rabbitmq-management` | no | a look at what only the HTTP API shows, policies and the version: the option `management` |
//! | `json` | yes | `Json<T>` bodies and `Message::json` |

pub use convoy_core::*;
#[cfg(feature = "kafka")]
pub use convoy_kafka as kafka;
#[cfg(feature = "memory")]
pub use convoy_memory as memory;
#[cfg(feature = "rabbitmq")]
pub use convoy_rabbitmq as rabbitmq;

/// The schemes that there are backends for, each with the feature that brings it.
const SCHEMES: &[(&str, &str)] =
    &[("memory", "memory"), ("kafka", "kafka"), ("amqp", "rabbitmq"), ("amqps", "rabbitmq-tls")];

/// Connects to the broker of this URL: its scheme says which backend that is, and its options are those of that backend.
///
/// `memory://name` is a broker in this process, which all that connect to that name share.
///
/// # Errors
/// [`ErrorKind::InvalidOption`], naming the scheme that no backend has, the feature that would bring the backend, or the option that is wrong.
///
/// # Cancel safety
/// Cancel safe.
pub async fn connect(url: &str) -> Result<Broker> {
    match url.split_once("://").map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "memory")]
        "memory" => memory::MemoryBroker::from_url(url).map(Broker::new),
        #[cfg(feature = "kafka")]
        "kafka" => kafka::KafkaBroker::from_url(url).await.map(Broker::new),
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => rabbitmq::RabbitBroker::from_url(url).await.map(Broker::new),
        scheme => Err(no_backend(scheme)),
    }
}

fn no_backend(scheme: &str) -> Error {
    let known = SCHEMES.iter().map(|(known, _)| format!("`{known}://`")).collect::<Vec<_>>().join(", ");
    let why = match SCHEMES.iter().find(|(known, _)| *known == scheme) {
        Some((_, feature)) => format!("`{scheme}://` needs the feature `{feature}` of convoy-mq"),
        None if scheme.is_empty() => format!("the URL has no scheme; there is {known}"),
        None => format!("no backend has the scheme `{scheme}`; there is {known}"),
    };
    Error::new(ErrorKind::InvalidOption, "connect").because(why)
}

#[cfg(all(doctest, feature = "memory", feature = "json"))]
#[doc = include_str!("../README.md")]
mod readme {}
