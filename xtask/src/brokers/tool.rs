//! Running another program whose output only matters when it fails: it goes to a file, and its end into the error.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long between two looks at something that is waited for.
pub(super) const TICK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(5);
const SHOWN: usize = 12;

/// Runs a program to its end, or kills it at the limit.
pub(super) fn run(name: &str, command: &mut Command, log: &Path, limit: Duration) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{name}: {e}");
    let before = fs::metadata(log).map_or(0, |log| log.len() as usize);
    let (out, err) = to_log(log)?;
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(told)?;
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().map_err(told)? {
            return if status.success() { Ok(()) } else { Err(format!("{name}: {status}{}", end_after(before, log))) };
        }
        if Instant::now() >= until {
            let killed = child.kill().and_then(|()| child.wait());
            let killed = killed.map_or_else(|e| format!(", and cannot be killed: {e}"), |_| String::new());
            return Err(format!("{name}: not done after {} s{killed}{}", limit.as_secs(), end_after(before, log)));
        }
        std::thread::sleep(TICK);
    }
}

/// Both outputs of a program, added to a file.
pub(super) fn to_log(log: &Path) -> Result<(Stdio, Stdio), String> {
    let told = |e: std::io::Error| format!("{}: {e}", log.display());
    let out = File::options().create(true).append(true).open(log).map_err(told)?;
    let err = out.try_clone().map_err(told)?;
    Ok((out.into(), err.into()))
}

/// The last lines of a file, as a part of an error.
pub(super) fn end_of(log: &Path) -> String {
    end_after(0, log)
}

/// The same, of what came after so many bytes.
fn end_after(bytes: usize, log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(bytes..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
    if last.is_empty() {
        return String::new();
    }
    format!("; the end of {}:\n    {}", log.display(), last.join("\n    "))
}

/// Opens a connection to a port of this machine, on which nothing is waited for without a limit.
pub(super) fn connect(port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let connected = TcpStream::connect_timeout(&address, ANSWER).and_then(|stream| {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(stream)
    });
    connected.map_err(|e| format!("{address}: {e}"))
}

/// Whether a port of this machine is free to be listened on.
pub(super) fn is_free(port: u16, what: &str) -> Result<(), String> {
    TcpListener::bind(("127.0.0.1", port)).map(|_| ()).map_err(|e| {
        format!("port {port} ({what}) is not free: {e}; end what uses it, or take other ports with `--port`")
    })
}

/// Whether a program is on the path.
pub(super) fn is_here(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_shows_its_end_and_what_hangs_is_killed() {
        let log = std::env::temp_dir().join(format!("convoy-xtask-tool-{}", std::process::id()));
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let minute = Duration::from_secs(60);
        assert_eq!(run("good", &mut sh("echo fine"), &log, minute), Ok(()));
        let why = run("bad", &mut sh("echo the reason >&2; exit 3"), &log, minute);
        assert!(why.is_err_and(|why| why.contains("the reason") && why.contains('3') && !why.contains("fine")));
        let why = run("slow", &mut sh("exec sleep 600"), &log, Duration::ZERO);
        assert!(why.is_err_and(|why| why.contains("not done")));
        let _ = fs::remove_file(&log);
    }
}
