//! A node from Debian's packages, and its port mapper, in a folder of their own, listening on this machine only.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::node::{Node, With};
use super::super::process::{Mark, PidFile};
use super::super::release::Release;
use super::super::tool::{self, TICK};
use super::debian::{self, NODE};
use super::ports::Ports;
use super::tls::Tls;

const SETTINGS: &str = include_str!("rabbitmq.conf");
/// A node writes what it has to disk before it ends.
const STOP: Duration = Duration::from_secs(30);
const LISTEN: Duration = Duration::from_secs(20);
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Enters the tree, in a mount namespace that ends with the process: nothing stays mounted. Each step replaces the process, so its number is that of
/// the program in the end. The limit on open files is one for many connections, and not the unbounded one of some machines, for which Erlang would
/// reserve memory.
const ENTER: &str = r#"
ulimit -n 65536 2>/dev/null
mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" && mount --bind "$2" "$1$3" || exit 1
tree=$1; shift 3
exec chroot --userspec=rabbitmq:rabbitmq "$tree" "$@"
"#;

/// A native node, whether it runs or not.
pub(in super::super) struct Rabbit {
    release: &'static Release,
    folder: PathBuf,
    /// The folder that has the programs in it: several nodes may share them, since each has its own data, and its own view of the file system.
    programs: PathBuf,
    broker: PidFile,
    epmd: PidFile,
    /// The node's name.
    name: String,
    /// Which of the nodes it is.
    at: usize,
    cluster: Option<Membership>,
}

/// What a node of a cluster shares with the others: the port mapper, and these.
struct Membership {
    folder: PathBuf,
    names: Vec<String>,
}

impl Rabbit {
    /// The only node, in this folder, or all nodes of a cluster, each in a folder of its own below the cluster's.
    pub(in super::super) fn all(release: &'static Release, folder: &Path, programs: &Path, count: usize) -> Vec<Self> {
        if count == 1 {
            return vec![Self::of(release, folder, programs)];
        }
        let names: Vec<String> = (1..=count).map(|node| format!("rabbit{node}@localhost")).collect();
        let node = |(at, name): (usize, &String)| {
            let mut node = Self::of(release, &folder.join(format!("node{}", at + 1)), programs);
            node.epmd.path = folder.join("epmd.pid");
            node.name = name.clone();
            node.at = at;
            node.cluster = Some(Membership { folder: folder.to_owned(), names: names.clone() });
            node
        };
        names.iter().enumerate().map(node).collect()
    }

    fn of(release: &'static Release, folder: &Path, programs: &Path) -> Self {
        let tree = debian::at(programs);
        let file = |name, program| PidFile { path: folder.join(name), program, mark: Mark::Root(tree.clone()) };
        Self {
            release,
            broker: file("broker.pid", "beam.smp"),
            epmd: file("epmd.pid", "epmd"),
            folder: folder.to_owned(),
            programs: programs.to_owned(),
            name: "rabbit@localhost".to_owned(),
            at: 0,
            cluster: None,
        }
    }

    /// The node's own folder. What it stored before stays.
    fn prepare(&self, tree: &Path, node: &Path, ports: Ports) -> Result<(), String> {
        let (user, group) = debian::user(tree)?;
        let told = |e: std::io::Error| e.to_string();
        let own = |path: &Path, mode: u32| {
            chown(path, Some(user), Some(group))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        let names = self.cluster.as_ref().map_or(&[][..], |cluster| &cluster.names);
        fs::create_dir_all(node).map_err(told)?;
        fs::write(node.join("rabbitmq.conf"), configuration(ports, names)).map_err(told)?;
        fs::write(node.join("enabled_plugins"), "[rabbitmq_management].\n").map_err(told)?;
        let cookie = node.join(".erlang.cookie");
        if !cookie.exists() {
            fs::write(&cookie, self.cookie().map_err(told)?).map_err(told)?;
        }
        own(&cookie, 0o400).and_then(|()| own(node, 0o750)).map_err(told)
    }

    /// A new one, or the one of the cluster.
    fn cookie(&self) -> std::io::Result<String> {
        let Some(cluster) = &self.cluster else { return secret() };
        let path = cluster.folder.join("cookie");
        if !path.exists() {
            fs::write(&path, secret()?)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        fs::read_to_string(path)
    }

    fn enter(&self, tree: &Path, ports: Ports, log: &str, program: &[&str]) -> Result<Child, String> {
        let log = self.folder.join(log);
        let _ = fs::remove_file(&log);
        let (out, err) = tool::to_log(&log)?;
        // A session of its own: it outlives the terminal.
        let mut command = Command::new("setsid");
        command.args(["unshare", "--mount", "sh", "-c", ENTER, "enter"]);
        command.arg(tree).arg(self.folder.join("node")).arg(NODE).args(program);
        command.current_dir("/").env_clear().envs(environment(&self.name, ports));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command.spawn().map_err(|e| format!("setsid: {e}"))
    }
}

impl Node for Rabbit {
    fn pid(&self) -> Option<u32> {
        self.broker.ours()
    }

    fn start(&self, with: With<'_>) -> Result<Child, String> {
        debian::possible()?;
        let tls = with.tls.map(Tls::of).transpose()?;
        let ports = Ports::of_node(with.ports, self.at).ok_or("a node without a port")?;
        self.stop()?;
        fs::create_dir_all(&self.folder).map_err(|e| format!("{}: {e}", self.folder.display()))?;
        let mapped = self.epmd.ours().is_some();
        let is_taken = |port: u16| (!mapped || port != ports.epmd) && (tls.is_some() || port != ports.tls);
        for (port, what) in ports.each().into_iter().filter(|(port, _)| is_taken(*port)) {
            tool::is_free(port, what)?;
        }
        fs::create_dir_all(&self.programs).map_err(|e| format!("{}: {e}", self.programs.display()))?;
        let tree = debian::tree(&self.programs, self.release)?;
        let node = self.folder.join("node");
        self.prepare(&tree, &node, ports).map_err(|why| format!("{}: {why}", node.display()))?;
        tls.map_or(Ok(()), |tls| tls.put_into(&tree, &node, ports.tls))?;
        if !mapped {
            // First, and by us: a node that finds none starts one itself, which then stays for ever.
            let port = ports.epmd.to_string();
            let mut epmd = self.enter(&tree, ports, "epmd.log", &["epmd", "-port", &port, "-address", "127.0.0.1"])?;
            self.epmd.write(epmd.id())?;
            answers(&mut epmd, ports.epmd)
                .map_err(|why| format!("epmd {why}{}", tool::end_of(&self.folder.join("epmd.log"))))?;
        }
        let broker = self.enter(&tree, ports, "broker.log", &["/usr/lib/rabbitmq/bin/rabbitmq-server"])?;
        self.broker.write(broker.id())?;
        Ok(broker)
    }

    /// Then its port mapper, too, unless that is one of a cluster.
    fn stop(&self) -> Result<bool, String> {
        let broker = self.broker.stop(STOP)?;
        Ok(self.cluster.is_none() && self.stop_shared()? || broker)
    }

    /// The port mapper.
    fn stop_shared(&self) -> Result<bool, String> {
        self.epmd.stop(STOP)
    }

    fn last_words(&self) -> String {
        let own = self.folder.join(format!("node/log/{}.log", self.name));
        tool::end_of(&self.folder.join("broker.log")) + &tool::end_of(&own)
    }

    fn stored(&self) -> PathBuf {
        self.folder.join("node")
    }
}

/// Waits until a program listens.
fn answers(child: &mut Child, port: u16) -> Result<(), String> {
    let until = Instant::now() + LISTEN;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait().map_err(|e| format!("cannot be asked: {e}"))? {
            return Err(format!("ended by itself: {status}"));
        }
        if Instant::now() >= until {
            return Err(format!("does not listen on port {port} after {} s", LISTEN.as_secs()));
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// What tells the node where it is; nothing of this machine's environment gets through.
fn environment(name: &str, ports: Ports) -> Vec<(&'static str, String)> {
    let inside = |name: &str| format!("{NODE}/{name}");
    vec![
        ("PATH", PATH.to_owned()),
        ("HOME", NODE.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", ports.epmd.to_string()),
        ("RABBITMQ_NODENAME", name.to_owned()),
        ("RABBITMQ_DIST_PORT", ports.dist.to_string()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
        ("RABBITMQ_CONF_ENV_FILE", inside("no-such-file")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", inside("data")),
        ("RABBITMQ_LOG_BASE", inside("log")),
        ("RABBITMQ_PID_FILE", inside("rabbitmq.pid")),
        // Makes the script become the node instead of watching over it.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ]
}

fn configuration(ports: Ports, cluster: &[String]) -> String {
    let Ports { amqp, http, .. } = ports;
    let mut text = format!(
        "{SETTINGS}\nlisteners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n"
    );
    if !cluster.is_empty() {
        text += "cluster_formation.peer_discovery_backend = classic_config\n";
    }
    for (at, name) in cluster.iter().enumerate() {
        text += &format!("cluster_formation.classic_config.nodes.{} = {name}\n", at + 1);
    }
    text
}

/// Whoever knows the cookie commands the node.
fn secret() -> std::io::Result<String> {
    let mut bytes = [0; 20];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_listens_on_this_machine_only() {
        let ports = Ports::beside(5673);
        let configuration = configuration(ports, &[]);
        for line in ["listeners.tcp.1 = 127.0.0.1:5673", "management.tcp.ip = 127.0.0.1", "management.tcp.port = 15673"]
        {
            assert!(configuration.lines().any(|l| l == line), "{line}");
        }
        let environment = environment("rabbit@localhost", ports);
        let value = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("ERL_EPMD_ADDRESS"), Some("127.0.0.1"));
        assert_eq!(value("ERL_EPMD_PORT"), Some("20673"));
        assert_eq!(value("RABBITMQ_DIST_PORT"), Some("25673"));
    }

    #[test]
    fn a_node_of_a_cluster_knows_all_of_it_and_shares_its_port_mapper() -> Result<(), String> {
        let release = Release::named("4.3", None)?;
        let nodes = Rabbit::all(release, Path::new("/c"), Path::new("/p"), 3);
        let ports = [5772, 5872, 5972];
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(node.name, format!("rabbit{}@localhost", at + 1));
            assert_eq!(node.folder, Path::new("/c").join(format!("node{}", at + 1)));
            assert_eq!(node.epmd.path, Path::new("/c/epmd.pid"));
            let names = node.cluster.as_ref().map(|cluster| cluster.names.clone()).unwrap_or_default();
            let own = Ports::of_node(&ports, at).ok_or("no ports")?;
            assert_eq!((own.amqp, own.epmd), (ports[at], 20_772));
            let configuration = configuration(own, &names);
            for line in [
                "cluster_formation.peer_discovery_backend = classic_config",
                "cluster_formation.classic_config.nodes.1 = rabbit1@localhost",
                "cluster_formation.classic_config.nodes.3 = rabbit3@localhost",
            ] {
                assert!(configuration.lines().any(|l| l == line), "{line}");
            }
        }
        Ok(())
    }
}
