//! The scenarios: what a backend must show, by name, through the public API alone.
//!
//! A backend of one's own is tested by one function and a [`Harness`]:
//!
//! ```
//! use async_trait::async_trait;
//! use convoy_conformance::suite::{self, Fault, Faults, Harness, Shape, Stage, Wishes};
//! use convoy_core::{Broker, ChannelSpec, Result, Topology};
//! use convoy_memory::MemoryBroker;
//!
//! struct Mine;
//! struct NoFaults;
//!
//! impl Faults for NoFaults {
//!     fn inject(&self, _group: &str, _fault: Fault) -> bool {
//!         false
//!     }
//! }
//!
//! #[async_trait]
//! impl Harness for Mine {
//!     fn name(&self) -> String {
//!         "my broker 1.0".into()
//!     }
//!
//!     fn shape(&self) -> Shape {
//!         Shape::Sessions
//!     }
//!
//!     async fn stage(&self, _wishes: Wishes) -> Result<Stage> {
//!         let broker = Broker::new(MemoryBroker::new());
//!         let channel = "orders".to_owned();
//!         broker.provision(&Topology::new().channel(ChannelSpec::new(&channel).group(suite::GROUP))).await?;
//!         Ok(Stage { broker, channel, faults: Box::new(NoFaults) })
//!     }
//! }
//!
//! // In a test target with `harness = false`, `main` is `suite::main(Mine)`.
//! let outcome = suite::run_one(&Mine, "publish-and-receive");
//! assert!(outcome.is_passed(), "{outcome:?}");
//! ```
//!
//! Each scenario ends passed, failed, or unsupported with the reason: a guarantee that the backend itself says it does not give, or something that the
//! harness cannot make happen. It records a history and is judged by the [`checker`](crate::checker). Nothing is retried, and nothing is taken out twice
//! on behalf of a backend. A run that reached no broker fails.

mod act;
mod harness;
mod run;
mod scenarios;

pub use act::{Act, Failed, GROUP, Held, Log, id, say, send};
pub use harness::{Answered, Fault, Faults, Harness, Hook, SentSo, Shape, Stage, Wishes};
pub use run::{Outcome, Scenario, all, main, run_one};
