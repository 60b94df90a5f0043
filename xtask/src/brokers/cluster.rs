//! Three nodes that are one broker, natively: what survives the loss of one of them is tried on it.

use std::process::Child;
use std::time::{Duration, Instant};

use super::asked::{Asked, CLUSTER};
use super::node::{Node, With};
use super::place::Place;
use super::product::Server;
use super::release::{Release, ports};
use super::tool::TICK;

/// Three nodes at once, on a machine that may be busy.
const READY: Duration = Duration::from_secs(240);

/// The cluster of a folder, whether it runs or not.
pub(super) struct Cluster {
    place: Place,
}

/// A cluster that answers as a whole.
struct Up {
    server: Server,
    ports: Vec<u16>,
    /// The process of each node.
    pids: Vec<u32>,
    /// Whether none of them ran before.
    fresh: bool,
}

impl Cluster {
    pub(super) fn of(release: &'static Release, named: Option<&str>) -> Result<Self, String> {
        Ok(Self { place: Place::of(release, named, CLUSTER)? })
    }

    /// Starts the nodes that do not run, and waits until each takes clients, sees all the others, and has their replicas in line.
    fn up(&self, asked: &Asked) -> Result<Up, String> {
        let _lock = self.place.lock()?;
        let runs = self.pids();
        let fresh = runs.iter().all(Option::is_none);
        let noted = self.place.port().filter(|_| !fresh);
        let first = match (noted, asked.port) {
            (Some(noted), Some(asked)) if noted != asked => {
                return Err(format!("it is up already, at port {noted}: `brokers down` comes first"));
            }
            (Some(noted), _) => noted,
            (None, Some(asked)) => asked,
            (None, None) => self.place.release.cluster_port(),
        };
        let ports = ports(first, CLUSTER)?;
        self.place.note(first)?;
        let with = With { ports: &ports, tls: None, links: &asked.links };
        let mut children = Vec::new();
        let missing = self.place.nodes.iter().zip(&runs).filter(|(_, pid)| pid.is_none());
        let outcome = missing
            .map(|(node, _)| (node, node.start(with)))
            .try_for_each(|(node, child)| child.map(|child| children.push((node.as_ref(), child))))
            .and_then(|()| self.wait(&ports, &mut children));
        match outcome {
            Ok(server) => {
                let pids = self.pids().into_iter().flatten().collect();
                Ok(Up { server, ports, pids, fresh })
            }
            Err(why) => {
                // What was started by this command and is no part of a cluster is of no use.
                let stopped = children.iter().filter_map(|(node, _)| node.stop().err()).collect::<Vec<_>>();
                if fresh {
                    let _ = self.stop();
                    self.place.forget();
                }
                let words: String = children.iter().map(|(node, _)| node.last_words()).collect();
                Err([vec![why], stopped].concat().join("; ") + &words)
            }
        }
    }

    /// Ends all nodes, or only one. Says whether there was anything.
    pub(super) fn down(&self, asked: &Asked) -> Result<bool, String> {
        if !self.place.folder.exists() {
            return Ok(false);
        }
        let _lock = self.place.lock()?;
        if let Some(number) = asked.node {
            let node = self.place.nodes.get(number - 1).ok_or_else(|| format!("there is no node {number}"))?;
            return node.stop();
        }
        let stopped = self.stop()?;
        self.place.forget();
        if asked.wipe {
            self.place.wipe()?;
        }
        Ok(stopped)
    }

    /// A line about it when any of it runs; an error when it does not answer as a whole.
    pub(super) fn look(&self) -> Result<Option<String>, String> {
        let pids = self.pids();
        if pids.iter().all(Option::is_none) {
            return Ok(None);
        }
        let Release { product, .. } = self.place.release;
        let first = self.place.port().unwrap_or(self.place.release.cluster_port());
        let ports = ports(first, CLUSTER)?;
        let version = self.place.exactly(product.ready(&ports, false)?).version;
        let pids: Vec<String> = pids.into_iter().flatten().map(|pid| pid.to_string()).collect();
        let (endpoint, folder) = (product.endpoint(&ports), self.place.folder.display());
        Ok(Some(format!("up: {version} at {endpoint}, native, processes {}, in {folder}", pids.join(", "))))
    }

    fn stop(&self) -> Result<bool, String> {
        let mut stopped = false;
        let nodes = &self.place.nodes;
        nodes.iter().for_each(|node| node.prepare_stop());
        // Backwards: the one that ends last has heard all that the others had to say.
        for node in nodes.iter().rev() {
            stopped |= node.stop()?;
        }
        for node in nodes {
            stopped |= node.stop_shared()?;
        }
        Ok(stopped)
    }

    fn pids(&self) -> Vec<Option<u32>> {
        self.place.nodes.iter().map(|node| node.pid()).collect()
    }

    fn wait(&self, ports: &[u16], children: &mut [(&dyn Node, Child)]) -> Result<Server, String> {
        let until = Instant::now() + READY;
        loop {
            let why = match self.place.release.product.ready(ports, false) {
                Ok(server) => return Ok(self.place.exactly(server)),
                Err(why) => why,
            };
            for (_, child) in &mut *children {
                if let Some(status) = child.try_wait().ok().flatten() {
                    return Err(format!("process {} ended by itself: {status}", child.id()));
                }
            }
            if Instant::now() >= until {
                return Err(format!("not whole after {} s: {why}", READY.as_secs()));
            }
            std::thread::sleep(TICK * 4);
        }
    }
}

/// `brokers up --nodes 3`.
pub(super) fn up(release: &'static Release, asked: &Asked) -> bool {
    let begun = Instant::now();
    let outcome = Cluster::of(release, asked.named.as_deref()).and_then(|cluster| cluster.up(asked));
    let seconds = begun.elapsed().as_secs_f64();
    let Release { product, name, .. } = release;
    let broker = product.name();
    match outcome {
        Ok(Up { server, ports, pids, fresh }) => {
            let (endpoint, version) = (product.endpoint(&ports), server.version);
            for (port, pid) in ports.iter().zip(&pids) {
                println!("a node at 127.0.0.1:{port}{}, process {pid}", product.beside(*port));
            }
            println!("{} {version}: {} nodes answer at {endpoint}", server.product, ports.len());
            if let Some(note) = release.note(&version) {
                println!("{note}");
            }
            let (nodes, pids) = (ports.len(), pids.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
            println!(
                "RESULT cmd=brokers broker={broker} version={version} endpoint={endpoint} nodes={nodes} how=native fresh={fresh} pids={pids} seconds={seconds:.1}"
            );
            true
        }
        Err(why) => {
            eprintln!("xtask: {} {name} is not up as a cluster: {why}", product.title());
            println!("RESULT cmd=brokers broker={broker} release={name} nodes={CLUSTER} up=false seconds={seconds:.1}");
            false
        }
    }
}
