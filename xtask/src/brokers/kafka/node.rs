//! A node as a process of this system, listening on this machine only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::super::node::{Node, With};
use super::super::process::{Mark, PidFile};
use super::super::tool;
use super::{jars, java, settings};

const LOGGING: &str = include_str!("log4j2.properties");
/// A node hands over what it leads before it ends.
const STOP: Duration = Duration::from_secs(30);
const FORMAT: Duration = Duration::from_secs(120);
/// Clusters are told apart by their ports.
const CLUSTER_ID: &str = "Y29udm95LXRlc3RzLTAwMA";
/// 210 to 300 MB were seen to be used.
const MEMORY: [&str; 3] = ["-Xms128m", "-Xmx768m", "-XX:+UseG1GC"];

/// A native node, whether it runs or not.
pub(in super::super) struct Kafka {
    folder: PathBuf,
    programs: PathBuf,
    broker: PidFile,
    /// Which of how many nodes it is.
    at: usize,
    count: usize,
}

impl Kafka {
    /// The only node, in this folder, or all nodes of a cluster, each in a folder of its own below the cluster's.
    pub(in super::super) fn all(folder: &Path, programs: &Path, count: usize) -> Vec<Self> {
        let each = (0..count).map(|at| {
            let folder = if count == 1 { folder.to_owned() } else { folder.join(format!("node{}", at + 1)) };
            let mark = Mark::Argument(folder.join("server.properties"));
            let broker = PidFile { path: folder.join("broker.pid"), program: "java", mark };
            Self { folder, programs: programs.to_owned(), broker, at, count }
        });
        each.collect()
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display())).map(|()| path)
    }
}

impl Node for Kafka {
    fn pid(&self) -> Option<u32> {
        self.broker.ours()
    }

    fn start(&self, with: With<'_>) -> Result<Child, String> {
        java::possible()?;
        self.stop()?;
        fs::create_dir_all(&self.folder).map_err(|e| format!("{}: {e}", self.folder.display()))?;
        let port = *with.ports.get(self.at).ok_or("a node without a port")?;
        let links = with.links.chunks(with.links.len().div_ceil(self.count).max(1)).nth(self.at).unwrap_or_default();
        let links = settings::links(port, links);
        tool::is_free(port, "Kafka")?;
        tool::is_free(settings::controller(port), "controllers")?;
        links.iter().try_for_each(|(own, _)| tool::is_free(*own, "a link"))?;
        let log = self.folder.join("install.log");
        let java = java::find(&log)?;
        let jars = jars::get(&self.programs, &log)?;
        let data = self.stored();
        let text = settings::properties(with.ports, self.at, &links, &data).ok_or("a node without a number")?;
        let properties = self.write("server.properties", &text)?;
        let logging = self.write("log4j2.properties", LOGGING)?;
        let options = ["-Djava.awt.headless=true".to_owned(), "-Djava.net.preferIPv4Stack=true".to_owned()];
        let options = [&options[..], &[format!("-Dlog4j2.configurationFile={}", logging.display())]].concat();
        if !data.join("meta.properties").is_file() {
            let mut format = java::program(&java, &jars, &options, "kafka.tools.StorageTool");
            format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&properties);
            tool::run("kafka.tools.StorageTool", &mut format, &self.folder.join("format.log"), FORMAT)?;
        }
        let log = self.folder.join("broker.log");
        let _ = fs::remove_file(&log);
        let (out, err) = tool::to_log(&log)?;
        let options = [&MEMORY.map(str::to_owned)[..], &options].concat();
        let mut broker = java::program(&java, &jars, &options, "kafka.Kafka");
        broker.arg(&properties).current_dir(&self.folder).stdout(out).stderr(err);
        let broker = broker.spawn().map_err(|e| format!("setsid: {e}"))?;
        self.broker.write(broker.id())?;
        Ok(broker)
    }

    fn stop(&self) -> Result<bool, String> {
        self.broker.stop(STOP)
    }

    /// All at once: the last of them would wait for the others to take over.
    fn prepare_stop(&self) {
        self.broker.ask_to_end();
    }

    fn last_words(&self) -> String {
        tool::end_of(&self.folder.join("broker.log"))
    }

    fn version(&self) -> Option<String> {
        let log = fs::read(self.folder.join("broker.log")).ok()?;
        version(&String::from_utf8_lossy(&log))
    }

    fn stored(&self) -> PathBuf {
        self.folder.join("node")
    }
}

/// What a node writes when it has started.
fn version(log: &str) -> Option<String> {
    let told = log.lines().filter_map(|line| line.split_once("Kafka version: ")).next_back();
    told.map(|(_, version)| version.trim().to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_the_node_wrote() {
        let log = "INFO a: b\n2026-11-27T14:18:41,618 INFO AppInfoParser: Kafka version: 4.4.0\nINFO commitId: 11\n";
        assert_eq!(version(log).as_deref(), Some("4.4.0"));
        assert_eq!(version("INFO AppInfoParser: Kafka version: \n"), None);
        assert_eq!(version(""), None);
    }
}
