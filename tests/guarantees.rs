//! The table of guarantees in the README is what the brokers say of themselves.

#![cfg(feature = "memory")]

use std::fmt::Write;

use convoy::connect;

#[tokio::test]
async fn the_readme_says_what_the_brokers_claim() {
    let sessions = connect("memory://").await.expect("a broker of sessions").guarantees();
    let lanes = connect("memory://?lanes=8").await.expect("a broker of lanes").guarantees();
    let mut table = String::from("| guarantee | memory, sessions | memory, lanes |\n|---|---|---|\n");
    for (s, l) in sessions.iter().zip(lanes.iter()) {
        writeln!(table, "| `{}` | {}: {} | {}: {} |", s.guarantee, s.support, s.why, l.support, l.why).expect("a line");
    }
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "the table in README.md is to be:\n\n{table}");
}

#[cfg(feature = "rabbitmq")]
#[test]
fn the_readme_shows_what_rabbitmq_claims() {
    let mut table = String::from("| guarantee | RabbitMQ |\n|---|---|\n");
    for claim in convoy::rabbitmq::guarantees().iter() {
        writeln!(table, "| `{}` | {}: {} |", claim.guarantee, claim.support, claim.why).expect("a line");
    }
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "the table in README.md is to be:\n\n{table}");
}
