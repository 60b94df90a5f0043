//! The Java that a broker runs on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{install, tool};

/// The oldest that Kafka 4 runs on.
const OLDEST: u32 = 17;
/// What the system has, whatever its number.
const PACKAGE: &str = "default-jre-headless";

/// One that is new enough: of `JAVA_HOME`, on the path, or of the system, and installed when there is none.
pub(super) fn find(log: &Path) -> Result<PathBuf, String> {
    if let Ok(java) = look() {
        return Ok(java);
    }
    install::packages(&format!("Java {OLDEST} or later"), &[PACKAGE], log)?;
    look()
}

fn look() -> Result<PathBuf, String> {
    let home = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    let home = home.map(|home| PathBuf::from(home).join("bin/java"));
    let places = home.into_iter().chain([PathBuf::from("java"), PathBuf::from("/usr/bin/java")]);
    let mut why = Vec::new();
    for java in places {
        match version(&java) {
            Some(version) if version >= OLDEST => return Ok(java),
            Some(version) => why.push(format!("{} is Java {version}", java.display())),
            None => why.push(format!("{} does not run", java.display())),
        }
    }
    Err(format!("Java {OLDEST} or later is not here ({}): install it, or name it in JAVA_HOME", why.join(", ")))
}

fn version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    // It tells that on the other output.
    output.status.success().then(|| number(&String::from_utf8_lossy(&output.stderr)))?
}

/// The first number of a version, as in `openjdk version "17.0.15" 2025-04-15`; that of old ones is 1.
fn number(told: &str) -> Option<u32> {
    let quoted = told.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What every program of Kafka's is given.
pub(super) fn program(java: &Path, jars: &Path, options: &[String], class: &str) -> Command {
    // A session of its own: it outlives the terminal.
    let mut command = Command::new("setsid");
    command.arg(java).args(options).arg("-cp").arg(jars.join("*")).arg(class);
    // Who sets this for programs of their own does not mean these.
    command.env_remove("JAVA_TOOL_OPTIONS").env_remove("CLASSPATH").stdin(Stdio::null());
    command
}

/// What a native start needs of this machine, asked before anything is done.
pub(super) fn possible() -> Result<(), String> {
    let otherwise = "or start a Docker daemon that can pull the official image";
    if !cfg!(target_os = "linux") {
        return Err(format!("a native start needs Linux: go there, {otherwise}"));
    }
    if !tool::is_here("setsid") {
        return Err(format!("`setsid` is not here: install the package `util-linux`, {otherwise}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_java_tells_its_number() {
        for (told, is) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment", Some(17)),
            ("java version \"1.8.0_402\"", Some(1)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            ("NOTE: Picked up JAVA_OPTIONS", None),
            ("openjdk version \"\"", None),
            ("", None),
        ] {
            assert_eq!(number(told), is, "{told}");
        }
    }
}
