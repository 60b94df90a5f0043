//! Who may import whom, and a few things that belong in no commit.

use super::source::{self, File};
use crate::command::{cargo, root};

type Rule = fn() -> Result<(), String>;

pub(super) const ALL: &[(&str, Rule)] = &[
    ("core names no broker and no client library", core_names_no_broker),
    ("the engine imports plain types only", engine_is_pure),
    ("the engine builds without tokio", engine_builds_without_tokio),
    ("backends import core only", backends_import_core),
    ("the suite imports core only", suite_imports_core),
    ("the facade holds no logic", facade_holds_no_logic),
    ("default features build no C and no other backend", defaults_build_no_c),
    ("no other feature brings Kafka's client", others_build_no_kafka),
    ("unsafe code only where it was audited", unsafe_is_audited),
    ("no stub and no test left out", no_stubs),
    ("no path of a machine", no_paths),
];

/// What only a backend may name: client libraries, and the crates of the brokers.
const BROKERS: &[&str] = &[
    "rdkafka",
    "rdkafka_sys",
    "lapin",
    "fe2o3_amqp",
    "convoy_memory",
    "convoy_kafka",
    "convoy_rabbitmq",
    "convoy_servicebus",
];

/// What the engine may take of core.
const PLAIN: &[&str] = &[
    "backend",
    "engine",
    "error",
    "guarantee",
    "lease_cell",
    "message",
    "policy",
    "position",
    "producer",
    "session",
    "time",
    "topology",
];

/// What nothing pure may name: runtimes, clocks, threads, I/O and chance.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "futures_util",
    "fastrand",
    "rand",
    "tracing",
    "std::time::Instant",
    "Instant",
    "std::thread",
    "std::net",
    "std::fs",
    "std::io",
    "runtime",
    "consumer",
];

fn none_of(files: &[File], words: &[&str]) -> Result<(), String> {
    match files.iter().find_map(|file| file.mentions(words)) {
        Some(found) => Err(found),
        None => Ok(()),
    }
}

fn core_names_no_broker() -> Result<(), String> {
    none_of(&source::below("convoy-core/src")?, BROKERS)?;
    let asked = source::dependencies("convoy-core/Cargo.toml", "dependencies")?;
    only(asked.iter().all(|name| !BROKERS.contains(&name.replace('-', "_").as_str())), || {
        format!("convoy-core/Cargo.toml asks for one of {BROKERS:?}")
    })
}

fn engine_is_pure() -> Result<(), String> {
    let files = source::below("convoy-core/src/engine")?;
    none_of(&files, IMPURE)?;
    for file in &files {
        for (at, line) in file.code() {
            for module in line.match_indices("crate::").map(|(from, found)| &line[from + found.len()..]) {
                let name = module.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                only(PLAIN.contains(&name), || format!("{}:{at} takes `crate::{name}`", file.path))?;
            }
        }
    }
    Ok(())
}

fn engine_builds_without_tokio() -> Result<(), String> {
    let built = cargo(["check", "--release", "--quiet", "--package", "convoy-core", "--no-default-features"]).run()?;
    only(built.ok(), || "convoy-core does not build without its features".to_owned())?;
    let tree = tree(&["--package", "convoy-core", "--no-default-features", "--edges", "normal"])?;
    only(!tree.iter().any(|name| name == "tokio"), || "tokio is in the tree of convoy-core without features".to_owned())
}

fn backends_import_core() -> Result<(), String> {
    for package in backends()? {
        let asked = source::dependencies(&format!("{package}/Cargo.toml"), "dependencies")?;
        let ours = asked.iter().find(|name| name.starts_with("convoy") && *name != "convoy-core");
        only(ours.is_none(), || format!("{package}/Cargo.toml asks for {}", ours.map_or("", String::as_str)))?;
    }
    Ok(())
}

/// The packages of brokers: what is called `convoy-…` and is not core.
fn backends() -> Result<Vec<String>, String> {
    let listed = std::fs::read_dir(root()).map_err(|e| e.to_string())?;
    let names = listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: Vec<String> = names.filter(|name| name.starts_with("convoy-") && name != "convoy-core").collect();
    only(!found.is_empty(), || "there is no backend".to_owned()).map(|()| found)
}

fn suite_imports_core() -> Result<(), String> {
    none_of(&source::below("integration-tests/src")?, BROKERS)?;
    let asked = source::dependencies("integration-tests/Cargo.toml", "dependencies")?;
    let ours = asked.iter().find(|name| name.starts_with("convoy") && *name != "convoy-core");
    only(ours.is_none(), || format!("the suite asks for {}", ours.map_or("", String::as_str)))
}

/// The facade re-exports, and connects: one function, and nothing to decide but the scheme.
fn facade_holds_no_logic() -> Result<(), String> {
    const LINES: usize = 60;
    let files = source::below("src")?;
    let lines: usize = files.iter().map(|file| file.code().count()).sum();
    only(lines <= LINES, || format!("{lines} lines of code, more than {LINES}"))?;
    for file in &files {
        for (at, line) in file.code() {
            let shapes = ["struct", "enum", "trait", "impl", "unsafe", "loop", "while", "for", "macro_rules!"];
            let shape = shapes.iter().find(|word| line.split_whitespace().any(|w| w == **word));
            only(shape.is_none(), || format!("{}:{at} has `{}`", file.path, shape.copied().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn defaults_build_no_c() -> Result<(), String> {
    let tree = tree(&["--package", "convoy-mq", "--edges", "normal,build"])?;
    let builds_c =
        |name: &String| ["cc", "cmake", "bindgen", "pkg-config"].contains(&name.as_str()) || name.ends_with("-sys");
    if let Some(name) = tree.iter().find(|name| builds_c(name)) {
        return Err(format!("{name} is in the tree of the default features"));
    }
    let other = tree.iter().find(|name| BROKERS.contains(&name.replace('-', "_").as_str()) && *name != "convoy-memory");
    only(other.is_none(), || format!("{} is in the tree of the default features", other.map_or("", String::as_str)))
}

/// Its client is C, and minutes of building.
fn others_build_no_kafka() -> Result<(), String> {
    let others = ["--features", "json,memory,rabbitmq,rabbitmq-tls"];
    let tree = tree(&[&["--package", "convoy-mq", "--edges", "normal,build"], &others[..]].concat())?;
    let found = tree.iter().find(|name| name.contains("rdkafka") || *name == "convoy-kafka");
    only(found.is_none(), || format!("{} is in the tree of `{}`", found.map_or("", String::as_str), others[1]))
}

/// The library's one file of it, and what measures.
fn unsafe_is_audited() -> Result<(), String> {
    let audited = [
        "convoy-kafka/src/queue/batch.rs",
        "convoy-core/benches/support/mod.rs",
        "integration-tests/benches/kafka/raw.rs",
    ];
    // Put together, so that this file does not find itself.
    let allowed = concat!("allow(uns", "afe_code");
    let files = source::tracked()?;
    let found: Vec<&str> =
        files.iter().filter(|file| file.text.contains(allowed)).map(|file| file.path.as_str()).collect();
    only(audited.iter().all(|path| found.contains(path)), || format!("not all of {audited:?} have it any more"))?;
    let other = found.iter().find(|path| path.ends_with(".rs") && !audited.contains(path));
    only(other.is_none(), || other.map_or_else(String::new, |path| (*path).to_owned()))
}

/// The names of the packages in a tree.
fn tree(args: &[&str]) -> Result<Vec<String>, String> {
    let text = cargo(["tree", "--prefix", "none", "--format", "{p}"].iter().chain(args)).read()?;
    let names: Vec<String> = text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    only(names.len() > 1, || "the tree is empty".to_owned()).map(|()| names)
}

fn no_stubs() -> Result<(), String> {
    // Put together, so that this file does not find itself.
    let stubs = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[ig", "nore")];
    let files = source::tracked()?;
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let found = file.text.lines().enumerate().find(|(_, line)| stubs.iter().any(|stub| line.contains(stub)));
        only(found.is_none(), || format!("{}:{}", file.path, found.map_or(0, |(at, _)| at + 1)))?;
    }
    Ok(())
}

fn no_paths() -> Result<(), String> {
    let root = root().canonicalize().map_err(|e| e.to_string())?;
    let mut homes =
        vec![concat!("/ho", "me/").to_owned(), concat!("/Us", "ers/").to_owned(), concat!("/ro", "ot/").to_owned()];
    // The folder around the checkout, unless that is the root of the file system.
    homes.extend(root.parent().filter(|above| above.parent().is_some()).map(|above| format!("{}/", above.display())));
    for file in source::tracked()? {
        let found =
            file.text.lines().enumerate().find(|(_, line)| homes.iter().any(|home| line.contains(home.as_str())));
        only(found.is_none(), || format!("{}:{}", file.path, found.map_or(0, |(at, _)| at + 1)))?;
    }
    Ok(())
}

fn only(held: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if held { Ok(()) } else { Err(why()) }
}
