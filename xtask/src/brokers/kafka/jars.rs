//! The programs of a release: artifacts of Maven's central repository, each by its checksum.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::{install, tool};

/// Group, artifact, version and SHA-256 of each. They are what Maven gives for `org.apache.kafka:kafka_2.13` and a logger that says why a start fails; and
/// `kafka-tools` alone, without what it needs beyond these.
const ARTIFACTS: &str = include_str!("artifacts.txt");
/// Names a repository instead of the central one.
const OVERRIDE: &str = "CONVOY_MAVEN_MIRROR";
const CENTRAL: &str = "https://repo.maven.apache.org/maven2";
/// What of Maven does the copying.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Written last, with the list that it was made for.
const MARKER: &str = "made-by-convoy";

struct Artifact<'a> {
    group: &'a str,
    name: &'a str,
    version: &'a str,
    checksum: &'a str,
}

/// The folder of them, filled when it is not.
pub(super) fn get(programs: &Path, log: &Path) -> Result<PathBuf, String> {
    let jars = programs.join("jars");
    let told = |e: std::io::Error| format!("{}: {e}", jars.display());
    fs::create_dir_all(programs).map_err(told)?;
    // Brokers with data of their own have these in common.
    let lock = File::options().create(true).append(true).open(programs.join("jars.lock")).map_err(told)?;
    lock.lock().map_err(told)?;
    if fs::read_to_string(jars.join(MARKER)).is_ok_and(|made_for| made_for == ARTIFACTS) {
        return Ok(jars);
    }
    let artifacts = artifacts();
    println!("getting Kafka's {} jars, 45 MB, into {}", artifacts.len(), jars.display());
    let begun = Instant::now();
    if jars.exists() {
        fs::remove_dir_all(&jars).map_err(told)?;
    }
    fs::create_dir_all(&jars).map_err(told)?;
    let mirror = std::env::var(OVERRIDE).ok().filter(|mirror| !mirror.is_empty());
    // Maven knows of this machine's mirrors and proxies.
    let by_maven = mirror.is_none() && tool::is_here("mvn");
    let got = if by_maven { with_maven(&artifacts, programs, &jars, log) } else { Err("no Maven".to_owned()) };
    if let Err(why) = got {
        if by_maven {
            println!("by HTTP, since Maven cannot: {why}");
        }
        with_curl(&artifacts, mirror.as_deref().unwrap_or(CENTRAL), &jars, log)?;
    }
    check(&artifacts, &jars, log)?;
    fs::write(jars.join(MARKER), ARTIFACTS).map_err(told)?;
    println!("done in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(jars)
}

fn artifacts() -> Vec<Artifact<'static>> {
    let each = ARTIFACTS.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (group, name, version) = (words.next()?, words.next()?, words.next()?);
        Some(Artifact { group, name, version, checksum: words.next()? })
    });
    each.collect()
}

impl Artifact<'_> {
    fn file(&self) -> String {
        format!("{}-{}.jar", self.name, self.version)
    }

    /// Where a repository has it.
    fn path(&self) -> String {
        format!("{}/{}/{}/{}", self.group.replace('.', "/"), self.name, self.version, self.file())
    }
}

/// By Maven: these, and nothing that they ask for.
fn with_maven(artifacts: &[Artifact<'_>], programs: &Path, jars: &Path, log: &Path) -> Result<(), String> {
    let folder = programs.join("maven");
    let pom = folder.join("pom.xml");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&pom, project(artifacts)));
    written.map_err(|e| format!("{}: {e}", pom.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom).arg(COPY);
    maven.arg(format!("-DoutputDirectory={}", jars.display()));
    tool::run("mvn", &mut maven, log, PATIENCE)
}

fn project(artifacts: &[Artifact<'_>]) -> String {
    let nothing = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>";
    let each = artifacts.iter().map(|Artifact { group, name, version, .. }| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>{nothing}</dependency>\n"
        )
    });
    let dependencies: String = each.collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>convoy</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies>\n</project>\n"
    )
}

/// By plain HTTP, over one connection.
fn with_curl(artifacts: &[Artifact<'_>], repository: &str, jars: &Path, log: &Path) -> Result<(), String> {
    if !tool::is_here("curl") {
        install::packages("`curl`", &["curl", "ca-certificates"], log)?;
    }
    let repository = repository.trim_end_matches('/');
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--connect-timeout", "20"]);
    curl.arg("--remote-name-all").current_dir(jars);
    curl.args(artifacts.iter().map(|artifact| format!("{repository}/{}", artifact.path())));
    tool::run("curl", &mut curl, log, PATIENCE)
        .map_err(|why| format!("{why}; `{OVERRIDE}=https://…` names another repository than {repository}"))
}

/// All are there, and nothing else is on the class path.
fn check(artifacts: &[Artifact<'_>], jars: &Path, log: &Path) -> Result<(), String> {
    let sums = jars.join("SHA256SUMS");
    let lines: String = artifacts.iter().map(|one| format!("{}  {}\n", one.checksum, one.file())).collect();
    fs::write(&sums, lines).map_err(|e| format!("{}: {e}", sums.display()))?;
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(jars);
    tool::run("sha256sum", &mut check, log, PATIENCE)?;
    let listed = fs::read_dir(jars).map_err(|e| format!("{}: {e}", jars.display()))?;
    let count = listed.flatten().filter(|entry| entry.path().extension().is_some_and(|kind| kind == "jar")).count();
    if count == artifacts.len() { Ok(()) } else { Err(format!("{}: {count} jars", jars.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::release::Release;

    #[test]
    fn the_list_is_whole_and_of_the_release() -> Result<(), String> {
        let artifacts = artifacts();
        assert_eq!(artifacts.len(), ARTIFACTS.lines().count());
        for artifact in &artifacts {
            let is_sum = artifact.checksum.len() == 64 && artifact.checksum.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_sum, "{}", artifact.name);
        }
        let version = Release::named("4.4", Some(crate::brokers::product::Product::Kafka))?.tag();
        let kafka: Vec<_> = artifacts.iter().filter(|artifact| artifact.group == "org.apache.kafka").collect();
        assert!(kafka.len() > 10 && kafka.iter().all(|artifact| artifact.version == version));
        let broker = kafka.iter().find(|artifact| artifact.name == "kafka_2.13").ok_or("no broker")?;
        assert_eq!(broker.path(), "org/apache/kafka/kafka_2.13/4.4.0/kafka_2.13-4.4.0.jar");
        Ok(())
    }
}
