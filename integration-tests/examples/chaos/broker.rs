//! The broker of a run: its own, so that it may be killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::args::Args;

/// Starting takes some seconds; the first time of a release, minutes.
const UP: Duration = Duration::from_secs(900);
const DOWN: Duration = Duration::from_secs(90);
const ALARM: Duration = Duration::from_secs(60);
/// The folder below `target/brokers` is called so: nobody else's broker is in it.
const NAMED: &str = "chaos";
/// Below what any node needs: an alarm.
const LITTLE: &str = "1MB";
/// As `xtask` configures it.
const PLENTY: &str = "4GiB";

/// A broker that was started by `xtask brokers`.
#[derive(Debug)]
pub(crate) struct Own {
    xtask: PathBuf,
    release: String,
    port: u16,
    pub(crate) version: String,
    pid: Option<Pid>,
}

impl Own {
    /// Starts it, with nothing stored from before.
    pub(crate) async fn start(args: &Args) -> Result<Self, String> {
        let Args { xtask, release, port, .. } = args.clone();
        let mut own = Self { xtask, release, port, version: String::new(), pid: None };
        own.xtask(&["down", "--wipe"], DOWN).await?;
        own.up().await?;
        Ok(own)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) async fn up(&mut self) -> Result<(), String> {
        let port = self.port.to_string();
        let told = self.xtask(&["up", "rabbitmq", "--native", "--port", &port], UP).await?;
        let said = |key: &str| {
            told.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        let pid = said("pid").and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        self.pid = Some(pid.ok_or("a broker of somebody else answers on the port: take another with `--port`")?);
        self.version = said("version").unwrap_or_default();
        Ok(())
    }

    /// A clean end; and nothing of it is left.
    pub(crate) async fn down(&mut self) -> Result<(), String> {
        self.pid = None;
        self.xtask(&["down"], DOWN).await.map(|_| ())
    }

    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        let pid = self.signal(Signal::KILL)?;
        let until = Instant::now() + Duration::from_secs(10);
        while is_alive(pid) {
            if Instant::now() >= until {
                return Err(format!("process {} does not die", pid.as_raw_nonzero()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.pid = None;
        Ok(())
    }

    pub(crate) fn freeze(&self, on: bool) -> Result<(), String> {
        self.signal(if on { Signal::STOP } else { Signal::CONT }).map(|_| ())
    }

    fn signal(&self, signal: Signal) -> Result<Pid, String> {
        let pid = self.pid.ok_or("the broker is down")?;
        kill_process(pid, signal).map_err(|e| format!("broker: {e}")).map(|()| pid)
    }

    /// Makes it believe that it has little memory, or gives it what it had. By its own tool, in the folder that it takes for the whole system.
    pub(crate) async fn alarm(&self, on: bool) -> Result<(), String> {
        let pid = self.pid.ok_or("the broker is down")?.as_raw_nonzero().to_string();
        let told = |e: std::io::Error| format!("/proc/{pid}: {e}");
        let environment = std::fs::read(format!("/proc/{pid}/environ")).map_err(told)?;
        let root = std::fs::read_link(format!("/proc/{pid}/root")).map_err(told)?;
        let mut tool = Command::new("nsenter");
        tool.args(["--target", &pid, "--mount", "chroot", "--userspec=rabbitmq:rabbitmq"]).arg(root);
        tool.args(["/usr/lib/rabbitmq/bin/rabbitmqctl", "--quiet", "set_vm_memory_high_watermark", "absolute"]);
        tool.arg(if on { LITTLE } else { PLENTY }).env_clear().current_dir("/");
        for pair in environment.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()) {
            if let Some((name, value)) = pair.split_once('=') {
                tool.env(name, value);
            }
        }
        // That is for the node; the tool would listen on its port.
        tool.env_remove("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS");
        run(tool, "rabbitmqctl", ALARM).await.map(|_| ())
    }

    async fn xtask(&self, args: &[&str], limit: Duration) -> Result<String, String> {
        let mut xtask = Command::new(&self.xtask);
        xtask.arg("brokers").args(args).args(["--release", &self.release, "--named", NAMED]);
        run(xtask, "xtask brokers", limit).await
    }
}

/// Runs a program to its end and gives what it said.
async fn run(mut program: Command, name: &str, limit: Duration) -> Result<String, String> {
    program.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, program.output()).await.map_err(|_| format!("{name}: not done in {limit:?}"))?;
    let output = output.map_err(|e| format!("{name}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{name}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Whether a process is more than an entry that nobody has read yet.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = |stat: String| stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    stat.is_ok_and(|stat| !matches!(state(stat), Some('Z' | 'X')))
}
