//! The broker of a run, of one node or three: its own, so that it may be killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::args::Args;
use crate::backend::Backend;

/// Starting takes some seconds; the first time of a release, minutes.
const UP: Duration = Duration::from_secs(900);
const DOWN: Duration = Duration::from_secs(180);
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
    backend: Backend,
    xtask: PathBuf,
    release: String,
    port: u16,
    pub(crate) version: String,
    nodes: Vec<Node>,
    /// What it is told of links: the ports of those to the first node, then of those to the next.
    links: Vec<u16>,
}

/// As `xtask` counts the ports of nodes up.
const APART: u16 = 100;

#[derive(Clone, Copy, Debug)]
struct Node {
    port: u16,
    /// While it runs.
    pid: Option<Pid>,
}

impl Own {
    /// One that does not run yet.
    pub(crate) fn of(args: &Args) -> Self {
        let Args { backend, xtask, release, port, .. } = args.clone();
        let nodes = (0..args.nodes).map(|at| Node { port: port + APART * at as u16, pid: None }).collect();
        Self { backend, xtask, release, port, version: String::new(), nodes, links: Vec::new() }
    }

    /// Starts it, with nothing stored from before. To it belong the links of this many workers, each of which has one to each node: by their ports, those to the first node first.
    pub(crate) async fn start(&mut self, links: Vec<u16>) -> Result<(), String> {
        if self.backend.tells_where() {
            self.links = links;
        }
        let meant: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        self.xtask(&["down", "--wipe"], DOWN).await?;
        self.up().await?;
        let are: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        if are == meant { Ok(()) } else { Err(format!("its nodes are on the ports {are:?}, and not on {meant:?}")) }
    }

    /// Where its nodes are.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| local(node.port)).collect()
    }

    /// Where the links of a worker lead to, node by node: to a listener of its own, if clients are told where to connect.
    pub(crate) fn behind(&self, worker: usize) -> Vec<SocketAddr> {
        let more = if self.backend.tells_where() { worker as u16 + 1 } else { 0 };
        self.nodes.iter().map(|node| local(node.port + more)).collect()
    }

    /// Whether a right ends with the node that its holder is connected to: at once, or, from RabbitMQ 4.3 on, if the node can still say so.
    pub(crate) fn ends_with_node(&self, killed: bool) -> bool {
        self.backend.ends_with_connection() && (!killed || self.release != "4.3")
    }

    /// Starts what does not run, and waits until it answers. A cluster is then whole: every node has its replicas in line.
    pub(crate) async fn up(&mut self) -> Result<(), String> {
        let port = self.port.to_string();
        let links = self.links.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let mut args = vec!["up", "--native", "--port", &port];
        if !links.is_empty() {
            args.extend(["--links", &links]);
        }
        let told = self.xtask(&args, UP).await?;
        let said = |key: &str| {
            told.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        let pids = said(if self.is_cluster() { "pids" } else { "pid" }).unwrap_or_default();
        let pids: Option<Vec<Pid>> = pids.split(',').map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
        let whole = pids.filter(|pids| pids.len() == self.nodes.len());
        let pids = whole.ok_or("a broker of somebody else answers on the port: take another with `--port`")?;
        let endpoint = said("endpoint").unwrap_or_default();
        let ports = endpoint.rsplit(['@', '/']).next().unwrap_or_default().split(',');
        let ports: Option<Vec<u16>> = ports.map(|at| at.rsplit(':').next()?.parse().ok()).collect();
        let ports = ports.filter(|ports| ports.len() == pids.len()).ok_or("a broker without an address")?;
        self.nodes = ports.into_iter().zip(pids).map(|(port, pid)| Node { port, pid: Some(pid) }).collect();
        self.version = said("version").unwrap_or_default();
        Ok(())
    }

    /// A clean end; and nothing of it is left.
    pub(crate) async fn down(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().for_each(|node| node.pid = None);
        self.xtask(&["down"], DOWN).await.map(|_| ())
    }

    /// A clean end of one node of a cluster.
    pub(crate) async fn stop_node(&mut self, at: usize) -> Result<(), String> {
        self.nodes[at].pid = None;
        let number = (at + 1).to_string();
        self.xtask(&["down", "--node", &number], DOWN).await.map(|_| ())
    }

    pub(crate) async fn kill(&mut self, at: usize) -> Result<(), String> {
        let pid = self.signal(at, Signal::KILL)?;
        let until = Instant::now() + Duration::from_secs(10);
        while is_alive(pid) {
            if Instant::now() >= until {
                return Err(format!("process {} does not die", pid.as_raw_nonzero()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.nodes[at].pid = None;
        Ok(())
    }

    pub(crate) fn freeze(&self, at: usize, on: bool) -> Result<(), String> {
        self.signal(at, if on { Signal::STOP } else { Signal::CONT }).map(|_| ())
    }

    fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    fn pid(&self, at: usize) -> Result<Pid, String> {
        self.nodes[at].pid.ok_or_else(|| "the broker is down".to_owned())
    }

    fn signal(&self, at: usize, signal: Signal) -> Result<Pid, String> {
        let pid = self.pid(at)?;
        kill_process(pid, signal).map_err(|e| format!("broker: {e}")).map(|()| pid)
    }

    /// Makes it believe that it has little memory, or gives it what it had. By its own tool, in the folder that it takes for the whole system.
    pub(crate) async fn alarm(&self, on: bool) -> Result<(), String> {
        let pid = self.pid(0)?.as_raw_nonzero().to_string();
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
        xtask.arg("brokers").args(args).args([self.backend.name(), "--release", &self.release, "--named", NAMED]);
        xtask.args(["--nodes", &self.nodes.len().to_string()]);
        run(xtask, "xtask brokers", limit).await
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
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
