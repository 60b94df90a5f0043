//! The nodes of a broker, and whose turn it is to be connected to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_core::Result;
use convoy_core::option::invalid;
use url::Url;

/// Host, and port when it is said.
pub(crate) type Node = (String, Option<u16>);

/// The nodes of a broker: one, or those of a cluster. Copies share whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    first: Node,
    others: Vec<Node>,
    turn: Arc<AtomicUsize>,
}

impl Nodes {
    /// Only this host. The first turn is drawn, so that not all clients start with the same node.
    pub(crate) fn one(host: String) -> Self {
        let turn = Arc::new(AtomicUsize::new(fastrand::usize(..1 << 16)));
        Self { first: (host, None), others: Vec::new(), turn }
    }

    pub(crate) fn set_port(&mut self, port: Option<u16>) {
        self.first.1 = port;
    }

    pub(crate) fn add(&mut self, node: Node) {
        self.others.push(node);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All of them, from the one on whose turn it is; the next call begins with the next one.
    pub(crate) fn turn(&self) -> impl Iterator<Item = &Node> {
        let count = 1 + self.others.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        self.all().cycle().skip(first).take(count)
    }
}

/// A URL may name several hosts, as in `amqp://user:password@a:5672,b:5673/vhost`, which is more than a URL is: gives one with the first of them, and the others.
pub(crate) fn split(url: &str) -> Result<(String, Vec<Node>)> {
    let Some(authority) = url.find("://").map(|at| at + 3) else { return Ok((url.to_owned(), Vec::new())) };
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    // A password may have a comma in it.
    let hosts = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    let mut each = url[hosts..end].split(',');
    let first = each.next().unwrap_or_default();
    let others = each.map(node).collect::<Result<Vec<_>>>()?;
    Ok((format!("{}{first}{}", &url[..hosts], &url[end..]), others))
}

fn node(text: &str) -> Result<Node> {
    let read = Url::parse(&format!("amqp://{text}")).ok();
    let read = read.and_then(|url| Some((url.host_str().filter(|host| !host.is_empty())?.to_owned(), url.port())));
    read.ok_or_else(|| {
        invalid("url", "the hosts of a URL are separated by `,`, each a name or an address, and `:port`")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn hosts_are_told_from_the_rest_of_a_url() {
        for (url, first, others) in [
            ("amqp://a", "amqp://a", &[][..]),
            ("amqp://a,b", "amqp://a", &[("b", None)]),
            ("amqp://a:1,b:2,c/v?x=1,2", "amqp://a:1/v?x=1,2", &[("b", Some(2)), ("c", None)]),
            ("amqp://u:p,q@a:1,b:2#f", "amqp://u:p,q@a:1#f", &[("b", Some(2))]),
            ("amqp://[::1]:1,[::1]:2?y", "amqp://[::1]:1?y", &[("[::1]", Some(2))]),
            ("nonsense", "nonsense", &[]),
        ] {
            let others: Vec<Node> = others.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
            assert_eq!(split(url).unwrap(), (first.to_owned(), others), "{url}");
        }
        for url in ["amqp://a,", "amqp://a,,b", "amqp://a,:1", "amqp://a,b:x", "amqp://a,b:70000", "amqp://a,b c"] {
            assert!(split(url).is_err(), "{url}");
        }
    }

    #[test]
    fn every_node_has_its_turn_and_copies_take_turns() {
        let mut nodes = Nodes::one("a".to_owned());
        nodes.set_port(Some(1));
        nodes.add(("b".to_owned(), None));
        nodes.add(("c".to_owned(), Some(3)));
        let copy = nodes.clone();
        let all: BTreeSet<&Node> = nodes.all().collect();
        assert_eq!(all.len(), 3);
        let turns: Vec<Vec<&Node>> =
            (0..6).map(|turn| if turn % 2 == 0 { nodes.turn() } else { copy.turn() }.collect()).collect();
        for turn in &turns {
            assert_eq!((turn.len(), turn.iter().copied().collect::<BTreeSet<_>>()), (3, all.clone()));
        }
        for three in turns.windows(3) {
            assert_eq!(three.iter().map(|turn| turn[0]).collect::<BTreeSet<_>>(), all);
        }
    }
}
