//! `cargo xtask brokers`: a real broker to test against, without a container registry where there is none.
//!
//! What is started lives in a folder of its own below `target/`: program, data, logs, pid files, endpoint. Nothing else of the system is changed without
//! being said.

mod amqp;
mod apt;
mod asked;
mod cluster;
mod debian;
mod docker;
mod down;
mod http;
mod native;
mod place;
mod process;
mod release;
mod status;
mod tls;
mod tool;
mod up;

use asked::{Asked, Verb};

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let asked = Asked::read(args)?;
    Ok(match asked.verb {
        Verb::Up => up::up(&asked),
        Verb::Down => down::down(&asked),
        Verb::Status => status::status(&asked),
    })
}

/// The tag of the official image of this release.
pub(crate) fn image_tag(release: &str) -> Result<&'static str, String> {
    release::Release::named(release).map(|release| release.tag)
}
