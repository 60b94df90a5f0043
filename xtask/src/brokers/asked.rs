//! What the command line asks for.

use std::path::PathBuf;

use super::release::{ALL, Ports, Release};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    /// None named: the first for `up`, all of them for the others.
    pub(super) release: Option<&'static Release>,
    pub(super) way: Way,
    pub(super) ports: Option<Ports>,
    /// `down` removes what the broker stored, too.
    pub(super) wipe: bool,
    /// A broker beside the one that everybody uses, with data of its own.
    pub(super) named: Option<String>,
    /// It speaks TLS, too, with what this folder has.
    pub(super) tls: Option<PathBuf>,
    /// One node, or a cluster of three. Not said: one for `up`, both for the others.
    pub(super) nodes: Option<usize>,
    /// The only node of the cluster that `down` ends, by number.
    pub(super) node: Option<usize>,
}

/// How many nodes a cluster has: the fewest of which one may be lost.
pub(super) const CLUSTER: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Up,
    Down,
    Status,
}

/// How a broker is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Docker where it works, else natively.
    Either,
    Native,
    Docker,
}

impl Asked {
    pub(super) fn read(args: &[String]) -> Result<Self, String> {
        let mut args = args.iter().map(String::as_str);
        let verb = match args.next() {
            Some("up") => Verb::Up,
            Some("down") => Verb::Down,
            Some("status") => Verb::Status,
            Some(other) => return Err(format!("`brokers` does not know `{other}`: say `up`, `down` or `status`")),
            None => return Err("say what: `brokers up`, `brokers down` or `brokers status`".to_owned()),
        };
        let mut asked = Self {
            verb,
            release: None,
            way: Way::Either,
            ports: None,
            wipe: false,
            named: None,
            tls: None,
            nodes: None,
            node: None,
        };
        let mut named = false;
        while let Some(arg) = args.next() {
            let (option, joined) = arg.split_once('=').map_or((arg, None), |(option, value)| (option, Some(value)));
            let mut value = || joined.or_else(|| args.next()).ok_or_else(|| format!("`{option}` needs a value"));
            match (option, verb) {
                ("rabbitmq", _) if joined.is_none() => named = true,
                ("--release", _) => asked.release = Some(Release::named(value()?)?),
                ("--named", _) => asked.named = Some(plain(value()?)?),
                ("--nodes", _) => asked.nodes = Some(nodes(value()?)?),
                ("--node", Verb::Down) => asked.node = Some(node(value()?)?),
                ("--port", Verb::Up) => {
                    let port = value()?;
                    asked.ports = Some(Ports::from(port.parse().map_err(|_| format!("`{port}` is no port"))?)?);
                }
                ("--tls", Verb::Up) => asked.tls = Some(PathBuf::from(value()?)),
                ("--native", Verb::Up) if asked.way != Way::Docker && joined.is_none() => asked.way = Way::Native,
                ("--docker", Verb::Up) if asked.way != Way::Native && joined.is_none() => asked.way = Way::Docker,
                ("--wipe", Verb::Down) if joined.is_none() => asked.wipe = true,
                _ => {
                    return Err(format!(
                        "`brokers` does not take `{arg}` there; the only broker it starts is `rabbitmq`"
                    ));
                }
            }
        }
        if verb == Verb::Up && !named {
            return Err("say which: `brokers up rabbitmq`".to_owned());
        }
        if asked.tls.is_some() && asked.way == Way::Docker {
            return Err("`--tls` is for a native start".to_owned());
        }
        if asked.tls.is_some() && asked.nodes == Some(CLUSTER) {
            return Err("`--tls` is for a broker of one node".to_owned());
        }
        if asked.tls.is_some() {
            asked.way = Way::Native;
        }
        if asked.nodes == Some(CLUSTER) && asked.way == Way::Docker {
            return Err("a cluster is started natively only: `--nodes 3` and `--docker` do not go together".to_owned());
        }
        if asked.node.is_some() && (asked.nodes == Some(1) || asked.wipe) {
            return Err("`--node` ends one node of a cluster, and removes nothing".to_owned());
        }
        Ok(asked)
    }

    /// Whether it is about a broker of one node.
    pub(super) fn is_single(&self) -> bool {
        self.nodes != Some(CLUSTER) && self.node.is_none()
    }

    /// Whether it is about a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.map_or(self.verb != Verb::Up, |nodes| nodes == CLUSTER)
    }

    /// The releases that `down` and `status` are about.
    pub(super) fn releases(&self) -> impl Iterator<Item = &'static Release> {
        let one = self.release;
        ALL.iter().filter(move |release| one.is_none_or(|one| one == *release))
    }
}

/// A name that may stand in the name of a folder.
fn plain(name: &str) -> Result<String, String> {
    let fits = !name.is_empty()
        && name != "cluster"
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits { Ok(name.to_owned()) } else { Err(format!("`{name}` is no name: take small letters and digits")) }
}

fn nodes(count: &str) -> Result<usize, String> {
    match count.parse() {
        Ok(count @ (1 | CLUSTER)) => Ok(count),
        _ => Err(format!("`--nodes {count}`: a broker has 1 node here, or {CLUSTER}")),
    }
}

fn node(number: &str) -> Result<usize, String> {
    let found = number.parse().ok().filter(|number| (1..=CLUSTER).contains(number));
    found.ok_or_else(|| format!("`--node {number}`: the nodes of a cluster are 1 to {CLUSTER}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, String> {
        Asked::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_can_be_asked() -> Result<(), String> {
        let plain = read("up rabbitmq")?;
        assert_eq!((plain.verb, plain.way, plain.release, plain.ports), (Verb::Up, Way::Either, None, None));
        let full = read("up rabbitmq --release 4.0 --native --port=6000")?;
        assert_eq!((full.way, full.release.map(|r| r.suite)), (Way::Native, Some("trixie")));
        assert_eq!(full.ports.map(|p| p.http), Some(16_000));
        assert_eq!(read("up --docker rabbitmq --release=3.10")?.way, Way::Docker);
        assert!(read("down --wipe")?.wipe);
        assert_eq!(read("up rabbitmq --named chaos")?.named.as_deref(), Some("chaos"));
        let tls = read("up rabbitmq --tls some/folder")?;
        assert_eq!((tls.tls, tls.way), (Some("some/folder".into()), Way::Native));
        assert_eq!(read("status")?.releases().count(), ALL.len());
        for (line, single, cluster) in [
            ("up rabbitmq", true, false),
            ("up rabbitmq --nodes 3", false, true),
            ("status", true, true),
            ("down", true, true),
            ("down --nodes 1", true, false),
            ("down --nodes=3 --wipe", false, true),
            ("down --node 2", false, true),
        ] {
            let asked = read(line)?;
            assert_eq!((asked.is_single(), asked.is_cluster()), (single, cluster), "{line}");
        }
        assert_eq!(read("down rabbitmq --release 4.3")?.releases().map(|r| r.name).collect::<Vec<_>>(), ["4.3"]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_asked() {
        for line in [
            "",
            "start",
            "up",
            "up kafka",
            "up rabbitmq --release",
            "up rabbitmq --release 5",
            "up rabbitmq --port x",
            "up rabbitmq --port 70000",
            "up rabbitmq --native --docker",
            "up rabbitmq --native=yes",
            "up rabbitmq --tls",
            "up rabbitmq --docker --tls x",
            "up rabbitmq --wipe",
            "down --native",
            "down --named ../x",
            "up rabbitmq --named cluster",
            "up rabbitmq --nodes 2",
            "up rabbitmq --nodes 3 --docker",
            "up rabbitmq --node 1",
            "down --node 4",
            "down --node 1 --wipe",
            "down --node 1 --nodes 1",
            "status --port 5672",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
