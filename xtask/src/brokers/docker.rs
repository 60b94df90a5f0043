//! The official image, by `docker compose`: where a daemon answers and an image can be had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::release::Release;
use super::tool;
use crate::command::root;

/// A daemon that does not answer soon is not one to wait for.
const ANSWER: Duration = Duration::from_secs(8);
const PULL: Duration = Duration::from_secs(120);
const UP: Duration = Duration::from_secs(60);

/// The container of a release, whether it runs or not.
pub(super) struct Docker {
    folder: PathBuf,
    release: &'static Release,
}

impl Docker {
    pub(super) fn of(folder: &Path, release: &'static Release) -> Self {
        Self { folder: folder.to_owned(), release }
    }

    /// Whether it was started from this folder and not stopped since.
    pub(super) fn is_started(&self) -> bool {
        self.marker().is_file()
    }

    /// Pulls the image when it is not here and starts the container.
    pub(super) fn start(&self, port: u16) -> Result<(), String> {
        let _ = fs::remove_file(self.log());
        if !tool::is_here("docker") {
            return Err("there is no `docker` here".to_owned());
        }
        self.docker(&["info"], ANSWER).map_err(|_| "no daemon answers `docker info`".to_owned())?;
        self.docker(&["compose", "version"], ANSWER).map_err(|_| "there is no `docker compose`".to_owned())?;
        let (image, service) = (self.release.image, self.release.product.name());
        if self.docker(&["image", "inspect", image], ANSWER).is_err() {
            println!("pulling the image {image}");
            self.compose(port, &["pull", "--quiet", service], PULL)?;
        }
        fs::write(self.marker(), format!("{}\n", self.project()))
            .map_err(|e| format!("{}: {e}", self.marker().display()))?;
        let up = self.compose(port, &["up", "--detach", service], UP);
        if up.is_err() {
            let _ = self.stop(port);
        }
        up
    }

    /// Stops and removes the container and what it stored. Says whether there was one.
    pub(super) fn stop(&self, port: u16) -> Result<bool, String> {
        if !self.is_started() {
            return Ok(false);
        }
        self.compose(port, &["down", "--volumes"], UP)?;
        fs::remove_file(self.marker()).map_err(|e| format!("{}: {e}", self.marker().display()))?;
        Ok(true)
    }

    fn compose(&self, port: u16, args: &[&str], limit: Duration) -> Result<(), String> {
        let project = self.project();
        let args = [&["compose", "--project-name", &project], args].concat();
        let mut command = Command::new("docker");
        command.args(&args).current_dir(root()).envs(self.release.product.compose(self.release, port));
        tool::run(&format!("docker {}", args.join(" ")), &mut command, &self.log(), limit)
    }

    fn docker(&self, args: &[&str], limit: Duration) -> Result<(), String> {
        tool::run(&format!("docker {}", args.join(" ")), Command::new("docker").args(args), &self.log(), limit)
    }

    /// One for each release and name, as the folders are, so that they run beside each other.
    fn project(&self) -> String {
        let folder = self.folder.file_name().unwrap_or_default().to_string_lossy();
        format!("convoy-{}", folder.replace('.', "-"))
    }

    fn marker(&self) -> PathBuf {
        self.folder.join("docker-project")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("docker.log")
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::ALL;
    use super::*;

    #[test]
    fn brokers_with_names_of_their_own_are_containers_of_their_own() {
        let project = |folder: &str| Docker::of(Path::new(folder), &ALL[0]).project();
        assert_eq!(project("x/rabbitmq-4.3"), "convoy-rabbitmq-4-3");
        assert_eq!(project("x/rabbitmq-4.3-other"), "convoy-rabbitmq-4-3-other");
    }
}
