//! Running a program: its output is shown as it comes and read on the way.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program to be run from the root of the workspace.
pub(crate) struct Program {
    command: Command,
    shown: String,
}

/// How a run went.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// The exit status.
    pub(crate) code: Option<i32>,
    /// Tests that passed, by the test runner's closing lines.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were left out.
    pub(crate) ignored: u64,
    /// The last `RESULT` line.
    pub(crate) result: Option<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Whether the `RESULT` line has this pair.
    pub(crate) fn says(&self, pair: &str) -> bool {
        self.result.as_ref().is_some_and(|line| line.split_whitespace().any(|word| word == pair))
    }

    fn read(&mut self, line: &str) {
        if line.starts_with("RESULT ") {
            self.result = Some(line.to_owned());
        }
        let Some(counts) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// `cargo` with these arguments.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Program {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut program = program(cargo, args);
    let rest = program.shown.split_once(' ').map_or("", |(_, rest)| rest);
    program.shown = format!("cargo {rest}");
    program
}

/// Another program.
pub(crate) fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Program {
    let mut command = Command::new(name.as_ref());
    command.args(args).current_dir(root()).stdin(Stdio::null());
    let name = PathBuf::from(name.as_ref());
    let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    let shown = std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ");
    Program { command, shown }
}

impl Program {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With another program, and what that is given, as its last arguments.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.command.arg(other.command.get_program()).args(other.command.get_args());
        self.command.envs(other.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.shown = format!("{} {}", self.shown, other.shown);
        self
    }

    /// Runs it and shows what it prints.
    pub(crate) fn run(mut self) -> Result<Ran, String> {
        println!("\n$ {}", self.shown);
        let begun = Instant::now();
        let mut child = self.command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", self.shown))?;
        let mut ran = Ran::default();
        let mut out = std::io::stdout().lock();
        for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
            let line = line.map_err(|e| format!("{}: {e}", self.shown))?;
            let line = String::from_utf8_lossy(&line);
            ran.read(&line);
            // Whoever reads our output may have gone; the run goes on to its end all the same.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
        ran.code = child.wait().map_err(|e| format!("{}: {e}", self.shown))?.code();
        ran.took = begun.elapsed();
        Ok(ran)
    }

    /// Runs it and gives what it prints on standard output; an error when it fails.
    pub(crate) fn read(mut self) -> Result<String, String> {
        let mut child = self.command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", self.shown))?;
        let mut text = String::new();
        if let Some(mut out) = child.stdout.take() {
            out.read_to_string(&mut text).map_err(|e| format!("{}: {e}", self.shown))?;
        }
        let status = child.wait().map_err(|e| format!("{}: {e}", self.shown))?;
        if status.success() { Ok(text) } else { Err(format!("{}: {status}", self.shown)) }
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.and_then(|p| p.parent().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("."))
}

/// Where the release build puts its programs: this one is among them.
pub(crate) fn built() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|e| format!("where am I? {e}"))?;
    here.parent().map(PathBuf::from).ok_or_else(|| "a program without a folder".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut ran = Ran::default();
        ran.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s");
        ran.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s");
        ran.read("RESULT cmd=sim fatal=0");
        assert_eq!((ran.passed, ran.failed, ran.ignored), (15, 2, 1));
        assert_eq!(ran.result.as_deref(), Some("RESULT cmd=sim fatal=0"));
    }
}
