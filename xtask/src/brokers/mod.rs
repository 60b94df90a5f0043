//! `cargo xtask brokers`: a real broker to test against, without a container registry where there is none.
//!
//! What is started lives in a folder of its own below `target/`: program, data, logs, pid files, endpoint. Nothing else of the system is changed without
//! being said.
//!
//! Here is what all brokers have in common; what one of them needs is in its own folder, and [`product`] alone asks which one it is.

mod asked;
mod bytes;
mod cluster;
mod docker;
mod down;
mod install;
mod kafka;
mod node;
mod place;
mod process;
mod product;
mod rabbitmq;
mod release;
mod status;
mod tool;
mod up;

use asked::{Asked, Verb};
use product::Product;

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let asked = Asked::read(args)?;
    Ok(match asked.verb {
        Verb::Up => up::up(&asked),
        Verb::Down => down::down(&asked),
        Verb::Status => status::status(&asked),
    })
}

/// The tag of the official image of this release of RabbitMQ.
pub(crate) fn image_tag(release: &str) -> Result<&'static str, String> {
    release::Release::named(release, Some(Product::RabbitMq)).map(release::Release::tag)
}
