//! Three nodes that are one broker, natively: what survives the loss of one of them is tried on it.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use super::amqp::{self, Server};
use super::asked::{Asked, CLUSTER};
use super::http;
use super::native::Native;
use super::place::{Place, programs, ready};
use super::release::{Ports, Release};
use super::tool::TICK;

/// Three nodes at once, on a machine that may be busy.
const READY: Duration = Duration::from_secs(240);

/// The cluster of a folder, whether it runs or not.
pub(super) struct Cluster {
    place: Place,
    nodes: Vec<Native>,
}

/// A cluster that answers as a whole.
pub(super) struct Up {
    pub(super) server: Server,
    pub(super) ports: Vec<Ports>,
    /// The process of each node.
    pub(super) pids: Vec<u32>,
    /// Whether none of them ran before.
    pub(super) fresh: bool,
}

impl Cluster {
    pub(super) fn of(release: &'static Release, named: Option<&str>) -> Result<Self, String> {
        let place = Place::of_cluster(release, named)?;
        let nodes = Native::cluster(&place.folder, &programs(release)?, CLUSTER);
        Ok(Self { place, nodes })
    }

    /// Starts the nodes that do not run, and waits until each takes clients, sees all the others, and has their replicas in line.
    pub(super) fn up(&self, asked: &Asked) -> Result<Up, String> {
        let _lock = self.place.lock()?;
        let runs = self.pids();
        let fresh = runs.iter().all(Option::is_none);
        let noted = self.place.ports().filter(|_| !fresh);
        let first = match (noted, asked.ports) {
            (Some(noted), Some(asked)) if noted != asked => {
                return Err(format!("it is up already, at port {}: `brokers down` comes first", noted.amqp));
            }
            (Some(noted), _) => noted,
            (None, Some(asked)) => asked,
            (None, None) => self.place.release.cluster_ports()?,
        };
        let ports = first.cluster(CLUSTER)?;
        self.place.note(first)?;
        let mut children = Vec::new();
        let missing = self.nodes.iter().zip(&ports).zip(&runs).filter(|(_, pid)| pid.is_none());
        let mut started = missing.map(|((node, ports), _)| (node, node.start(self.place.release, *ports, None)));
        let outcome = started
            .try_for_each(|(node, child)| child.map(|child| children.push((node, child))))
            .and_then(|()| wait(&ports, &mut children));
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
            let node = self.nodes.get(number - 1).ok_or_else(|| format!("there is no node {number}"))?;
            return node.stop();
        }
        let stopped = self.stop()?;
        self.place.forget();
        if asked.wipe {
            for at in 1..=self.nodes.len() {
                let folder = self.place.folder.join(format!("node{at}"));
                if folder.exists() {
                    fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
                }
            }
        }
        Ok(stopped)
    }

    /// A line about it when any of it runs; an error when it does not answer as a whole.
    pub(super) fn look(&self) -> Result<Option<String>, String> {
        let pids = self.pids();
        if pids.iter().all(Option::is_none) {
            return Ok(None);
        }
        let first = self.place.ports().map_or_else(|| self.place.release.cluster_ports(), Ok)?;
        let ports = first.cluster(CLUSTER)?;
        let server = whole(&ports)?;
        let pids: Vec<String> = pids.into_iter().flatten().map(|pid| pid.to_string()).collect();
        let (endpoint, folder) = (endpoint(&ports), self.place.folder.display());
        Ok(Some(format!("up: {} at {endpoint}, native, processes {}, in {folder}", server.version, pids.join(", "))))
    }

    fn stop(&self) -> Result<bool, String> {
        let mut stopped = false;
        // Backwards: the one that ends last has heard all that the others had to say.
        for node in self.nodes.iter().rev() {
            stopped |= node.stop()?;
        }
        for node in &self.nodes {
            stopped |= node.stop_mapper()?;
        }
        Ok(stopped)
    }

    fn pids(&self) -> Vec<Option<u32>> {
        self.nodes.iter().map(Native::pid).collect()
    }
}

/// The URL that has all nodes in it.
pub(super) fn endpoint(ports: &[Ports]) -> String {
    let hosts: Vec<String> = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.amqp)).collect();
    format!("amqp://guest:guest@{}", hosts.join(","))
}

/// Whether clients can work on each node, and the loss of any one would lose nothing.
fn whole(ports: &[Ports]) -> Result<Server, String> {
    let mut server = None;
    for ports in ports {
        server = Some(ready(*ports)?);
        http::in_cluster(ports.http, CLUSTER)?;
    }
    server.ok_or_else(|| "a cluster without nodes".to_owned())
}

fn wait(ports: &[Ports], children: &mut [(&Native, Child)]) -> Result<Server, String> {
    let until = Instant::now() + READY;
    loop {
        let why = match whole(ports) {
            Ok(server) => return Ok(server),
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

/// `brokers up --nodes 3`.
pub(super) fn up(release: &'static Release, asked: &Asked) -> bool {
    let begun = Instant::now();
    let outcome = Cluster::of(release, asked.named.as_deref()).and_then(|cluster| cluster.up(asked));
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(Up { server: amqp::Server { product, version }, ports, pids, fresh }) => {
            let endpoint = endpoint(&ports);
            for (ports, pid) in ports.iter().zip(&pids) {
                let Ports { amqp, http, .. } = ports;
                println!("a node at 127.0.0.1:{amqp}, its HTTP API at http://127.0.0.1:{http}, process {pid}");
            }
            println!("{product} {version}: {} nodes answer at {endpoint}", ports.len());
            if !release.has(&version) {
                println!("note: that is what Debian {} has today, and no {}", release.suite, release.name);
            }
            let (nodes, pids) = (ports.len(), pids.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
            println!(
                "RESULT cmd=brokers broker=rabbitmq version={version} endpoint={endpoint} nodes={nodes} how=native fresh={fresh} pids={pids} seconds={seconds:.1}"
            );
            true
        }
        Err(why) => {
            eprintln!("xtask: RabbitMQ {} is not up as a cluster: {why}", release.name);
            println!(
                "RESULT cmd=brokers broker=rabbitmq release={} nodes={CLUSTER} up=false seconds={seconds:.1}",
                release.name
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_a_cluster_has_all_nodes_in_it() -> Result<(), String> {
        let ports = Ports::from(5772)?.cluster(3)?;
        assert_eq!(endpoint(&ports), "amqp://guest:guest@127.0.0.1:5772,127.0.0.1:5872,127.0.0.1:5972");
        Ok(())
    }
}
