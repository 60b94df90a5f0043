//! What the command line asks for.

use std::path::PathBuf;

use super::product::Product;
use super::release::{self, Release};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    /// Always named for `up`; none named for the others: all of them.
    product: Option<Product>,
    /// None named: the first for `up`, all of them for the others.
    pub(super) release: Option<&'static Release>,
    pub(super) way: Way,
    pub(super) port: Option<u16>,
    /// `down` removes what the broker stored, too.
    pub(super) wipe: bool,
    /// A broker beside the one that everybody uses, with data of its own.
    pub(super) named: Option<String>,
    /// It speaks TLS, too, with what this folder has.
    pub(super) tls: Option<PathBuf>,
    /// For each of these ports it has one more listener, and says that clients are to connect to that port: whoever stands in between listens there.
    pub(super) links: Vec<u16>,
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
            product: None,
            release: None,
            way: Way::Either,
            port: None,
            wipe: false,
            named: None,
            tls: None,
            links: Vec::new(),
            nodes: None,
            node: None,
        };
        let mut release = None;
        while let Some(arg) = args.next() {
            let (option, joined) = arg.split_once('=').map_or((arg, None), |(option, value)| (option, Some(value)));
            let mut value = || joined.or_else(|| args.next()).ok_or_else(|| format!("`{option}` needs a value"));
            match (option, verb) {
                (name, _) if joined.is_none() && Product::named(name).is_some() => asked.product = Product::named(name),
                ("--release", _) => release = Some(value()?),
                ("--named", _) => asked.named = Some(plain(value()?)?),
                ("--nodes", _) => asked.nodes = Some(nodes(value()?)?),
                ("--node", Verb::Down) => asked.node = Some(node(value()?)?),
                ("--port", Verb::Up) => asked.port = Some(release::port(number(value()?)?)?),
                ("--links", Verb::Up) => asked.links = value()?.split(',').map(number).collect::<Result<_, _>>()?,
                ("--tls", Verb::Up) => asked.tls = Some(PathBuf::from(value()?)),
                ("--native", Verb::Up) if asked.way != Way::Docker && joined.is_none() => asked.way = Way::Native,
                ("--docker", Verb::Up) if asked.way != Way::Native && joined.is_none() => asked.way = Way::Docker,
                ("--wipe", Verb::Down) if joined.is_none() => asked.wipe = true,
                _ => {
                    return Err(format!(
                        "`brokers` does not take `{arg}` there; the brokers that it starts are {}",
                        names(" and ")
                    ));
                }
            }
        }
        asked.release = release.map(|name| Release::named(name, asked.product)).transpose()?;
        asked.refuse()?;
        if asked.is_special() {
            asked.way = Way::Native;
        }
        Ok(asked)
    }

    /// What does not go together.
    fn refuse(&self) -> Result<(), String> {
        let is_cluster = self.nodes == Some(CLUSTER);
        let (has_tls, has_links) = (self.tls.is_some(), !self.links.is_empty());
        let refused = [
            (self.verb == Verb::Up && self.product.is_none(), format!("say which: {}", names(" or "))),
            (has_tls && self.product != Some(Product::RabbitMq), "`--tls` is for RabbitMQ".to_owned()),
            (
                has_links && self.product != Some(Product::Kafka),
                "`--links` is for Kafka, whose clients are told where to connect".to_owned(),
            ),
            (self.is_special() && self.way == Way::Docker, "`--tls` and `--links` are for a native start".to_owned()),
            (has_tls && is_cluster, "`--tls` is for a broker of one node".to_owned()),
            (
                is_cluster && self.way == Way::Docker,
                "a cluster is started natively only: `--nodes 3` and `--docker` do not go together".to_owned(),
            ),
            (
                !self.links.len().is_multiple_of(self.nodes.unwrap_or(1)),
                "`--links` has as many of them for each node".to_owned(),
            ),
            (
                self.node.is_some() && (self.nodes == Some(1) || self.wipe),
                "`--node` ends one node of a cluster, and removes nothing".to_owned(),
            ),
        ];
        refused.into_iter().find(|(is, _)| *is).map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Whether it is about a broker of one node.
    pub(super) fn is_single(&self) -> bool {
        self.nodes != Some(CLUSTER) && self.node.is_none()
    }

    /// Whether it is about a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.map_or(self.verb != Verb::Up, |nodes| nodes == CLUSTER)
    }

    /// Whether it is for something of which a broker that is up already would not know whether it has it.
    pub(super) fn is_special(&self) -> bool {
        self.tls.is_some() || !self.links.is_empty()
    }

    /// The releases that it is about; for `up`, that is the first of these.
    pub(super) fn releases(&self) -> impl Iterator<Item = &'static Release> {
        let one = self.release;
        release::of(self.product).filter(move |release| one.is_none_or(|one| one == *release))
    }
}

/// What can be started, as it is written.
fn names(between: &str) -> String {
    Product::ALL.map(|product| format!("`{}`", product.name())).join(between)
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is no port"))
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
        assert_eq!((plain.verb, plain.way, plain.release, plain.port), (Verb::Up, Way::Either, None, None));
        let full = read("up rabbitmq --release 4.0 --native --port=6000")?;
        assert_eq!((full.way, full.release.map(|r| r.name), full.port), (Way::Native, Some("4.0"), Some(6000)));
        assert_eq!(read("up --docker rabbitmq --release=3.10")?.way, Way::Docker);
        assert!(read("down --wipe")?.wipe);
        assert_eq!(read("up rabbitmq --named chaos")?.named.as_deref(), Some("chaos"));
        let tls = read("up rabbitmq --tls some/folder")?;
        assert_eq!((tls.tls, tls.way), (Some("some/folder".into()), Way::Native));
        assert_eq!(read("status")?.releases().count(), release::ALL.len());
        let first = |line| read(line).map(|asked| asked.releases().next().map(|first| (first.product, first.port)));
        assert_eq!(first("up rabbitmq")?, Some((Product::RabbitMq, 5672)));
        assert_eq!(first("up kafka")?, Some((Product::Kafka, 9092)));
        let links = read("up kafka --nodes 3 --links 1,2,3,4,5,6")?;
        assert_eq!((links.links, links.way), (vec![1, 2, 3, 4, 5, 6], Way::Native));
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
        assert!(read("down kafka")?.releases().all(|release| release.product == Product::Kafka));
        Ok(())
    }

    #[test]
    fn what_cannot_be_asked() {
        for line in [
            "",
            "start",
            "up",
            "up memory",
            "up --release 4.3",
            "up kafka --release 4.3",
            "up kafka --tls x",
            "up kafka --links x",
            "up kafka --links 1 --docker",
            "up kafka --links 1,2 --nodes 3",
            "up rabbitmq --links 1",
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
