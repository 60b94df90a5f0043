//! What a command did, by part.

use std::time::{Duration, Instant};

use crate::command::Ran;

/// The parts of a command and their outcome.
pub(crate) struct Summary {
    command: &'static str,
    begun: Instant,
    parts: Vec<Part>,
}

struct Part {
    name: String,
    passed: u64,
    failed: u64,
    took: Duration,
    note: String,
}

impl Summary {
    pub(crate) fn new(command: &'static str) -> Self {
        Self { command, begun: Instant::now(), parts: Vec::new() }
    }

    /// A part made of tests, judged by their closing lines. It fails when it ran none.
    pub(crate) fn tests(&mut self, name: &str, ran: Result<Ran, String>) {
        let mut part = Part::of(name, &ran);
        if let Ok(ran) = &ran {
            (part.passed, part.failed) = (ran.passed, ran.failed);
            if ran.ok() && ran.passed == 0 {
                part.fail("it ran no test");
            } else if !ran.ok() && ran.failed == 0 {
                part.fail("it did not run to its end");
            }
            if ran.ignored > 0 {
                part.note = format!("{} left out", ran.ignored);
            }
        }
        self.parts.push(part);
    }

    /// A part that holds or not, by its exit status.
    pub(crate) fn one(&mut self, name: &str, ran: Result<Ran, String>) -> bool {
        self.expect(name, 0, &[], ran)
    }

    /// A part that holds when it ends with this exit status and its `RESULT` line says all of this.
    pub(crate) fn expect(&mut self, name: &str, code: i32, says: &[&str], ran: Result<Ran, String>) -> bool {
        let mut part = Part::of(name, &ran);
        let held = ran.as_ref().is_ok_and(|ran| ran.code == Some(code) && says.iter().all(|pair| ran.says(pair)));
        if let Ok(ran) = ran {
            (part.passed, part.failed) = (u64::from(held), u64::from(!held));
            part.note = ran.result.map(|line| line.trim_start_matches("RESULT ").to_owned()).unwrap_or_default();
        }
        self.parts.push(part);
        held
    }

    /// A part that is work only, such as compiling: it counts when it fails.
    pub(crate) fn work(&mut self, name: &str, ran: Result<Ran, String>) -> bool {
        let held = self.one(name, ran);
        if let Some(part) = self.parts.last_mut() {
            part.passed = 0;
        }
        held
    }

    /// A part that was judged here.
    pub(crate) fn judged(&mut self, name: &str, begun: Instant, held: Result<String, String>) {
        let took = begun.elapsed();
        let (passed, failed) = (u64::from(held.is_ok()), u64::from(held.is_err()));
        let note = held.unwrap_or_else(|why| why.lines().next().unwrap_or_default().to_owned());
        self.parts.push(Part { name: name.to_owned(), passed, failed, took, note });
    }

    pub(crate) fn passed(&self) -> u64 {
        self.parts.iter().map(|part| part.passed).sum()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.parts.iter().map(|part| part.failed).sum()
    }

    /// Prints the table and the `RESULT` line; says whether everything held and something ran.
    pub(crate) fn print(&self) -> bool {
        let width = self.parts.iter().map(|part| part.name.len()).max().unwrap_or(0);
        println!("\n{:<width$}  passed  failed  minutes", "part");
        for part in &self.parts {
            let note = part.note.chars().take(100).collect::<String>();
            let line = format!(
                "{:<width$}  {:>6}  {:>6}  {:>7.1}  {note}",
                part.name,
                part.passed,
                part.failed,
                minutes(part.took)
            );
            println!("{}", line.trim_end());
        }
        let (passed, failed) = (self.passed(), self.failed());
        let minutes = minutes(self.begun.elapsed());
        let parts = self.parts.len();
        println!("\nRESULT cmd={} passed={passed} failed={failed} parts={parts} minutes={minutes:.1}", self.command);
        failed == 0 && passed > 0
    }
}

impl Part {
    fn of(name: &str, ran: &Result<Ran, String>) -> Self {
        let mut part = Self {
            name: name.to_owned(),
            passed: 0,
            failed: 0,
            took: ran.as_ref().map(|ran| ran.took).unwrap_or_default(),
            note: String::new(),
        };
        if let Err(why) = ran {
            eprintln!("xtask: {why}");
            part.fail(why);
        }
        part
    }

    fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.note = why.to_owned();
    }
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, passed: u64, failed: u64) -> Result<Ran, String> {
        Ok(Ran { code: Some(code), passed, failed, ..Ran::default() })
    }

    #[test]
    fn a_part_without_tests_fails() {
        let mut summary = Summary::new("test");
        summary.tests("none", ran(0, 0, 0));
        assert_eq!((summary.passed(), summary.failed()), (0, 1));
        summary.tests("does not compile", ran(101, 0, 0));
        assert_eq!(summary.failed(), 2);
        summary.tests("some", ran(0, 7, 0));
        summary.tests("cut off", ran(101, 3, 0));
        assert_eq!((summary.passed(), summary.failed()), (10, 3));
        summary.tests("not found", Err("no such program".into()));
        assert_eq!(summary.failed(), 4);
    }

    #[test]
    fn another_exit_status_than_the_expected_one_fails() {
        let mut summary = Summary::new("test");
        assert!(summary.expect("a missing file", 2, &[], ran(2, 0, 0)));
        assert!(!summary.expect("a missing file", 2, &[], ran(0, 0, 0)));
        assert!(summary.work("compile", ran(0, 0, 0)));
        let says = |line: &str| Ok(Ran { code: Some(0), result: Some(line.to_owned()), ..Ran::default() });
        assert!(summary.expect("says so", 0, &["lost=1"], says("RESULT sent=3 lost=1")));
        assert!(!summary.expect("says more", 0, &["lost=1"], says("RESULT sent=3 lost=10")));
        assert_eq!((summary.passed(), summary.failed()), (2, 2));
    }
}
