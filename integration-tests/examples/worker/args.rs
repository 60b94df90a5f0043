//! What the command line says.

use std::path::PathBuf;

use crate::lie::Lie;

/// The arguments of all verbs; each takes what it needs.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) verb: String,
    pub(crate) url: String,
    pub(crate) channel: String,
    pub(crate) history: PathBuf,
    /// The number of this process in the history, unique in the run.
    pub(crate) process: u32,
    pub(crate) sessions: u32,
    pub(crate) messages: u64,
    /// Messages a second; 0 for as fast as it goes.
    pub(crate) rate: u64,
    pub(crate) seed: u64,
    /// How long a handler works, in the mean.
    pub(crate) work_us: u64,
    /// Of so many in a thousand attempts the handler says that they failed.
    pub(crate) fail_permille: u32,
    pub(crate) lie: Option<Lie>,
}

impl Args {
    pub(crate) fn read(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = given;
        let verb = given.next().ok_or("say `provision`, `consume` or `produce`")?;
        let mut args = Self {
            verb,
            url: String::new(),
            channel: String::new(),
            history: PathBuf::new(),
            process: 0,
            sessions: 1,
            messages: 0,
            rate: 0,
            seed: 0,
            work_us: 2_000,
            fail_permille: 5,
            lie: None,
        };
        while let Some(name) = given.next() {
            let value = given.next().ok_or_else(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--url" => args.url = value,
                "--channel" => args.channel = value,
                "--history" => args.history = value.into(),
                "--process" => args.process = number(&name, &value)?,
                "--sessions" => args.sessions = number::<u32>(&name, &value)?.max(1),
                "--messages" => args.messages = number(&name, &value)?,
                "--rate" => args.rate = number(&name, &value)?,
                "--seed" => args.seed = number(&name, &value)?,
                "--work-us" => args.work_us = number(&name, &value)?,
                "--fail-permille" => args.fail_permille = number(&name, &value)?,
                "--lie" => args.lie = Some(Lie::named(&value)?),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(args)
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} wants a number, not `{value}`"))
}
