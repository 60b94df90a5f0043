//! Packages of this system: what is changed outside of `target/`, only when it is missing, and never without being said.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::tool;

const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Installs packages with apt-get, since `what` is not here.
pub(super) fn packages(what: &str, packages: &[&str], log: &Path) -> Result<(), String> {
    if !tool::is_here("apt-get") {
        return Err(format!("{what} is not here, nor apt-get to install it: install it by hand"));
    }
    println!("{what} is not here: installing {} on this system, with apt-get", packages.join(", "));
    let apt_get = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        tool::run(&format!("apt-get {}", args.join(" ")), &mut command, log, PATIENCE)
    };
    let install = [&["install", "--yes", "--no-install-recommends"][..], packages].concat();
    // The lists may be old or not there.
    apt_get(&install).or_else(|_| apt_get(&["update"]).and_then(|()| apt_get(&install)))
}
