//! `cargo xtask sim`: builds the simulation and runs it with the options given.

use crate::command::{cargo, program};

const PACKAGE: &[&str] = &["--release", "--package", "convoy-conformance", "--features", "sim", "--bin", "sim"];

pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let built = cargo(["build"].iter().chain(PACKAGE)).run()?;
    if !built.ok() {
        println!("RESULT cmd=sim built=false");
        return Ok(false);
    }
    Ok(program(crate::command::built()?.join("sim"), args).run()?.ok())
}
