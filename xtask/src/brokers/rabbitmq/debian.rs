//! The folder that a broker runs in: a small Debian of the suite that has the release, with the broker's package and nothing of this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::release::{Origin, Release};
use super::super::{install, tool};
use super::apt;

/// Written last. A tree without it was not finished.
const MARKER: &str = "made-by-convoy";
/// Where the node's own folder shows inside of the tree.
pub(super) const NODE: &str = "/srv/node";
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The tree, made when it is not there.
pub(super) fn tree(folder: &Path, release: &Release) -> Result<PathBuf, String> {
    let tree = at(folder);
    let marker = tree.join(MARKER);
    if marker.is_file() {
        return Ok(tree);
    }
    let Origin::Debian(suite) = release.origin else { return Err("it is not from Debian".to_owned()) };
    let mirror = apt::mirror()?;
    if tree.to_string_lossy().contains(char::is_whitespace) {
        let tree = tree.display();
        return Err(format!("debootstrap fails in a path with a space, {tree}: set CARGO_TARGET_DIR to one without"));
    }
    if tree.exists() {
        println!("{}: was not finished, thrown away", tree.display());
        fs::remove_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    }
    let log = folder.join("debootstrap.log");
    let _ = fs::remove_file(&log);
    install_debootstrap(&log)?;
    println!("getting RabbitMQ {} from Debian {suite} into {}: a minute or two", release.name, tree.display());
    let begun = Instant::now();
    // In namespaces of its own: what it mounts is gone with it, and it is ended as a whole, also when this command is: it must not work on in a tree
    // that the next one throws away.
    let mut make = Command::new("setpriv");
    make.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    make.arg("debootstrap");
    make.args(["--variant=minbase", "--include=rabbitmq-server"]);
    make.args(mirror.keyring.iter().map(|keys| format!("--keyring={}", keys.display())));
    make.args(mirror.trusted.then_some("--no-check-gpg"));
    make.arg(suite).arg(&tree).arg(&mirror.url);
    tool::run("debootstrap", make.env("DEBIAN_FRONTEND", "noninteractive"), &log, PATIENCE)?;
    finish(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    println!("done in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(tree)
}

pub(super) fn at(folder: &Path) -> PathBuf {
    folder.join("debian")
}

fn finish(tree: &Path) -> std::io::Result<()> {
    // Without it the node's own name, `localhost`, is looked up in the network, and the node waits for ever.
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::create_dir_all(tree.join(NODE.trim_start_matches('/')))?;
    // A quarter of the size, and of no use any more.
    for package in fs::read_dir(tree.join("var/cache/apt/archives"))?.flatten() {
        if package.path().extension().is_some_and(|kind| kind == "deb") {
            fs::remove_file(package.path())?;
        }
    }
    fs::write(tree.join(MARKER), "complete\n")
}

/// User and group of the broker inside of the tree.
pub(super) fn user(tree: &Path) -> Result<(u32, u32), String> {
    let path = tree.join("etc/passwd");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    numbers(&text).ok_or_else(|| format!("{} has no user `rabbitmq`", path.display()))
}

fn numbers(passwd: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find_map(|line| line.strip_prefix("rabbitmq:"))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// What a native start needs of this machine, asked before anything is done.
pub(super) fn possible() -> Result<(), String> {
    let otherwise = "or start a Docker daemon that can pull the official image";
    if !cfg!(target_os = "linux") {
        return Err(format!("a native start needs Linux: go there, {otherwise}"));
    }
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        return Err(format!(
            "a native start needs root, for a folder with a Debian of its own: run this as root, {otherwise}"
        ));
    }
    let tools = [
        ("unshare", "util-linux"),
        ("setsid", "util-linux"),
        ("setpriv", "util-linux"),
        ("mount", "mount"),
        ("chroot", "coreutils"),
    ];
    if let Some((name, package)) = tools.iter().find(|(name, _)| !tool::is_here(name)) {
        return Err(format!("`{name}` is not here: install the package `{package}`, {otherwise}"));
    }
    let unshared = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).output();
    match unshared {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("no namespace can be made here ({why}): give this container CAP_SYS_ADMIN, {otherwise}"))
        }
        Err(e) => Err(format!("unshare: {e}")),
    }
}

fn install_debootstrap(log: &Path) -> Result<(), String> {
    if tool::is_here("debootstrap") {
        return Ok(());
    }
    install::packages("`debootstrap`", &["debootstrap", "gpgv", "debian-archive-keyring"], log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_from_its_line() {
        let passwd = "root:x:0:0:root:/r:/bin/sh\nrabbitmq:x:101:102:RabbitMQ:/var/lib/rabbitmq:/usr/sbin/nologin\n";
        assert_eq!(numbers(passwd), Some((101, 102)));
        for bad in ["", "rabbitmq", "rabbitmq:", "rabbitmq:x:a:b", "rabbitmq:x:1", "notrabbitmq:x:1:1:"] {
            assert_eq!(numbers(bad), None);
        }
    }
}
