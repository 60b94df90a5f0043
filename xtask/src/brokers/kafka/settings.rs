//! What a node is told in its configuration.

use std::path::Path;

const SETTINGS: &str = include_str!("kafka.properties");

/// Where nodes that control listen to each other, from the port that clients find.
pub(in super::super) fn controller(port: u16) -> u16 {
    port.saturating_add(10_000)
}

/// Where links to this node lead, each with the port that clients are told: counted up from the port of the node.
pub(super) fn links(port: u16, told: &[u16]) -> Vec<(u16, u16)> {
    (1..).map(|more| port.saturating_add(more)).zip(told.iter().copied()).collect()
}

/// The configuration of the node at this place of a cluster, or of the only one.
///
/// A client is told by each listener where to find every node: so one that came by a link is told of the links of all nodes with the same place in the list, and
/// by none of them of the nodes themselves.
pub(super) fn properties(ports: &[u16], at: usize, links: &[(u16, u16)], data: &Path) -> Option<String> {
    let port = *ports.get(at)?;
    let each = links.iter().enumerate().map(|(link, (own, told))| (format!("LINK{}", link + 1), *own, *told));
    let clients: Vec<_> = [("PLAIN".to_owned(), port, port)].into_iter().chain(each).collect();
    let url = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
    let own = clients.iter().map(|(name, own, _)| url(name, *own));
    let listeners: Vec<String> = own.chain([url("CONTROLLER", controller(port))]).collect();
    let told: Vec<String> = clients.iter().map(|(name, _, told)| url(name, *told)).collect();
    let names = clients.iter().map(|(name, ..)| name.as_str()).chain(["CONTROLLER"]);
    let security: Vec<String> = names.map(|name| format!("{name}:PLAINTEXT")).collect();
    let number = |at: usize| at + 1;
    let voters = ports.iter().enumerate();
    let voters: Vec<String> =
        voters.map(|(at, port)| format!("{}@127.0.0.1:{}", number(at), controller(*port))).collect();
    // As many replicas as there are nodes, one of which may be missing.
    let (replicas, in_line) = (ports.len(), ports.len().saturating_sub(1).max(1));
    let lines = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", number(at).to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listeners", listeners.join(",")),
        ("advertised.listeners", told.join(",")),
        ("listener.security.protocol.map", security.join(",")),
        ("inter.broker.listener.name", "PLAIN".to_owned()),
        ("log.dirs", data.display().to_string()),
        ("default.replication.factor", replicas.to_string()),
        ("min.insync.replicas", in_line.to_string()),
        ("offsets.topic.replication.factor", replicas.to_string()),
        ("transaction.state.log.replication.factor", replicas.to_string()),
        ("transaction.state.log.min.isr", in_line.to_string()),
    ];
    let lines: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    Some(format!("{SETTINGS}\n{lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(properties: &str, line: &str) -> bool {
        properties.lines().any(|l| l == line)
    }

    #[test]
    fn everything_listens_on_this_machine_only() {
        let alone = properties(&[9092], 0, &[], Path::new("/d")).unwrap();
        for line in [
            "listeners=PLAIN://127.0.0.1:9092,CONTROLLER://127.0.0.1:19092",
            "advertised.listeners=PLAIN://127.0.0.1:9092",
            "controller.quorum.voters=1@127.0.0.1:19092",
            "min.insync.replicas=1",
            "auto.create.topics.enable=false",
            "group.initial.rebalance.delay.ms=0",
        ] {
            assert!(has(&alone, line), "{line}");
        }
        assert_eq!(properties(&[9092], 1, &[], Path::new("/d")), None);
    }

    #[test]
    fn who_comes_by_a_link_is_told_of_links_only() {
        let ports = [9192, 9292, 9392];
        let second = properties(&ports, 1, &links(9292, &[40_001, 40_002]), Path::new("/d")).unwrap();
        for line in [
            "node.id=2",
            "listeners=PLAIN://127.0.0.1:9292,LINK1://127.0.0.1:9293,LINK2://127.0.0.1:9294,CONTROLLER://127.0.0.1:19292",
            "advertised.listeners=PLAIN://127.0.0.1:9292,LINK1://127.0.0.1:40001,LINK2://127.0.0.1:40002",
            "listener.security.protocol.map=PLAIN:PLAINTEXT,LINK1:PLAINTEXT,LINK2:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters=1@127.0.0.1:19192,2@127.0.0.1:19292,3@127.0.0.1:19392",
            "default.replication.factor=3",
            "min.insync.replicas=2",
            "transaction.state.log.min.isr=2",
        ] {
            assert!(has(&second, line), "{line}");
        }
    }
}
