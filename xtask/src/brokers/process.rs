//! Processes that outlive this command, found again by a pid file.
//!
//! The process that wrote one may be gone and its number given to another, so a number alone is never believed: it must run the program, inside of the
//! tree that it was started in, or with the file that it was given.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::tool::TICK;

/// The file that holds the number of a process.
#[derive(Debug)]
pub(super) struct PidFile {
    pub(super) path: PathBuf,
    /// What the process runs.
    pub(super) program: &'static str,
    /// By what it is told from another one that runs the same.
    pub(super) mark: Mark,
}

/// What no other process has.
#[derive(Debug)]
pub(super) enum Mark {
    /// Its root folder.
    Root(PathBuf),
    /// One of its arguments.
    Argument(PathBuf),
}

/// What a pid file leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or one that names no process that runs.
    Nothing,
    /// A process of somebody else, who was given the number later.
    Stranger(u32),
    Ours(u32),
}

impl PidFile {
    pub(super) fn write(&self, pid: u32) -> Result<(), String> {
        fs::write(&self.path, format!("{pid}\n")).map_err(|e| format!("{}: {e}", self.path.display()))
    }

    pub(super) fn find(&self) -> Found {
        let Some(pid) = fs::read_to_string(&self.path).ok().and_then(|text| number(&text)) else {
            return Found::Nothing;
        };
        // A process that has ended and is not waited for yet has no command line any more.
        match fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) if line.is_empty() => Found::Nothing,
            Ok(line) if runs(&line, self.program) && self.mark.is_on(pid, &line) => Found::Ours(pid),
            Ok(_) => Found::Stranger(pid),
            Err(_) => Found::Nothing,
        }
    }

    pub(super) fn ours(&self) -> Option<u32> {
        if let Found::Ours(pid) = self.find() { Some(pid) } else { None }
    }

    /// Asks the process to end, and waits for nothing.
    pub(super) fn ask_to_end(&self) {
        if let Some(pid) = self.ours() {
            let _ = signal(pid, "TERM");
        }
    }

    /// Asks the process to end, kills it when it has not ended in time, and removes the file. Says whether there was one of ours.
    pub(super) fn stop(&self, patience: Duration) -> Result<bool, String> {
        let found = self.find();
        if let Found::Stranger(pid) = found {
            println!("{}: process {pid} is another program by now and left alone", self.path.display());
        }
        if let Found::Ours(pid) = found {
            signal(pid, "TERM")?;
            if !ends_within(pid, patience) {
                println!("{} (process {pid}) does not end: killing it", self.program);
                signal(pid, "KILL")?;
                if !ends_within(pid, Duration::from_secs(10)) {
                    return Err(format!("{} (process {pid}) cannot be killed", self.program));
                }
            }
        }
        if self.path.exists() {
            fs::remove_file(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        }
        Ok(matches!(found, Found::Ours(_)))
    }
}

impl Mark {
    fn is_on(&self, pid: u32, line: &[u8]) -> bool {
        match self {
            Self::Root(tree) => lives_in(pid, tree),
            Self::Argument(path) => {
                line.split(|byte| *byte == 0).any(|argument| argument == path.as_os_str().as_bytes())
            }
        }
    }
}

fn ends_within(pid: u32, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !has_ended(&stat)) {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(TICK);
    }
    true
}

/// Whether a process has ended and only waits to be taken note of. Its command line is gone some time before that, while its ports are still taken.
fn has_ended(stat: &str) -> bool {
    // The name stands in brackets and may have any character.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    matches!(state, Some("Z" | "X"))
}

/// The number in a pid file. 0 and 1 are no process that was started here, and a signal to 0 would go to our own group.
fn number(text: &str) -> Option<u32> {
    let digits = text.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let pid = plain.then(|| digits.parse::<u32>().ok())??;
    (pid > 1 && i32::try_from(pid).is_ok()).then_some(pid)
}

/// Whether a command line, as `/proc` has it, is one of this program.
fn runs(line: &[u8], program: &str) -> bool {
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    first.rsplit(|byte| *byte == b'/').next() == Some(program.as_bytes())
}

/// Whether a process has this folder as its root. Who may not look takes the command line's word for it; they may not send a signal either.
fn lives_in(pid: u32, tree: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|is| (is.dev(), is.ino()));
    match (place(Path::new(&format!("/proc/{pid}/root"))), place(tree)) {
        (Ok(root), Ok(tree)) => root == tree,
        (Err(e), Ok(_)) => e.kind() == std::io::ErrorKind::PermissionDenied,
        (_, Err(_)) => false,
    }
}

/// The shell has a `kill` of its own, so that no package is needed for it.
fn signal(pid: u32, name: &str) -> Result<(), String> {
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid.to_string()]).stdin(Stdio::null());
    let output = kill.output().map_err(|e| format!("sh: {e}"))?;
    // It may have ended by itself since it was looked at.
    let gone = !Path::new(&format!("/proc/{pid}")).exists();
    if output.status.success() || gone {
        return Ok(());
    }
    Err(format!("process {pid}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_one_number() {
        assert_eq!(number("4711\n"), Some(4711));
        for bad in ["", "\n", "0", "1", "-5", "+7", "12 13", "0x10", "99999999999", "4294967295", "pid", "\u{663}"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_command_line_names_its_program() {
        assert!(runs(b"/usr/lib/erlang/erts-17/bin/beam.smp\0-W\0w\0", "beam.smp"));
        assert!(runs(b"epmd\0-port\0", "epmd"));
        for other in [&b""[..], b"\0", b"vim\0beam.smp\0", b"/usr/bin/notepmd\0", b"sh\0-c\0epmd\0"] {
            assert!(!runs(other, "epmd") && !runs(other, "beam.smp"));
        }
    }

    #[test]
    fn a_process_has_ended_when_only_its_number_is_left() {
        assert!(has_ended("12 (beam.smp) Z 1 12 12 0"));
        assert!(has_ended("12 (a) S (b) X 1"));
        for alive in ["12 (Z) S 1 12", "12 (beam.smp) R 1", "12 (a) Z) D 1", "", "12", "12 (Z", "12 ()"] {
            assert!(!has_ended(alive), "{alive}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stranger_is_never_ours() -> Result<(), String> {
        let path = std::env::temp_dir().join(format!("convoy-xtask-pid-{}", std::process::id()));
        let mut child = Command::new("sleep").arg("600").spawn().map_err(|e| e.to_string())?;
        let file = |program, tree: &str| PidFile { path: path.clone(), program, mark: Mark::Root(tree.into()) };
        file("sleep", "/").write(child.id())?;
        // It is there a little earlier than its command line.
        let until = Instant::now() + Duration::from_secs(10);
        while file("sleep", "/").find() == Found::Nothing && Instant::now() < until {
            std::thread::yield_now();
        }
        // Another program, the right program in another tree, and the right one.
        let stopped = file("epmd", "/").stop(Duration::ZERO);
        let kept = child.try_wait().map_err(|e| e.to_string())?.is_none();
        file("sleep", "/").write(child.id())?;
        let elsewhere = file("sleep", "/proc").find();
        let here = file("sleep", "/").find();
        let with = |argument: &str| PidFile { mark: Mark::Argument(argument.into()), ..file("sleep", "/") }.find();
        let (with_other, with_own) = (with("60"), with("600"));
        child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
        let after = file("sleep", "/").find();
        let _ = fs::remove_file(&path);
        assert_eq!(stopped, Ok(false));
        assert!(kept);
        assert_eq!(elsewhere, Found::Stranger(child.id()));
        assert_eq!(here, Found::Ours(child.id()));
        assert_eq!((with_other, with_own), (Found::Stranger(child.id()), Found::Ours(child.id())));
        assert_eq!(after, Found::Nothing);
        Ok(())
    }
}
