//! Every seeded bug shows, and the same steps without it do not.

use super::*;
use crate::producer::{ProducerBug, Resume};

fn pair(bug: Option<ProducerBug>) -> (Pipeline, Run) {
    let mut p = pipeline(|o| o.bug = bug);
    send(&mut p, "s", "1").unwrap();
    send(&mut p, "s", "2").unwrap();
    let first = runs(&mut p).remove(0);
    (p, first)
}

fn handed(p: &mut Pipeline) -> Vec<String> {
    runs(p).iter().flat_map(|r| bodies(r).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn overtakes_after_failure() {
    for (bug, after) in [(None, vec![]), (Some(ProducerBug::OvertakesAfterFailure), vec!["2"])] {
        let (mut p, run) = pair(bug);
        p.on_sent(at(1), refused(run.ticket));
        assert_eq!(handed(&mut p), after);
    }
}

#[test]
fn two_runs_out() {
    for (bug, out) in [(None, 1), (Some(ProducerBug::TwoRunsOut), 2)] {
        let mut p = pipeline(|o| o.bug = bug);
        send(&mut p, "s", "1").unwrap();
        send(&mut p, "s", "2").unwrap();
        let runs = runs(&mut p);
        assert_eq!(runs.len(), out);
        for run in runs {
            p.on_sent(at(1), ok(run.ticket, 1));
        }
        assert_eq!(outcomes(&mut p).len(), out);
    }
}

#[test]
fn unknown_taken_for_ok() {
    for (bug, is_ok) in [(None, false), (Some(ProducerBug::UnknownTakenForOk), true)] {
        let (mut p, run) = pair(bug);
        p.on_sent(at(1), unknown(run.ticket));
        assert_eq!(outcomes(&mut p)[0].1.is_ok(), is_ok);
    }
}

#[test]
fn resend_out_of_order() {
    for (bug, first) in [(None, "1"), (Some(ProducerBug::ResendOutOfOrder), "2")] {
        let (mut p, run) = pair(bug);
        p.on_sent(at(1), refused(run.ticket));
        p.resume(at(2), &id("s"), Resume::Resend, at(40));
        assert_eq!(handed(&mut p), [first]);
    }
}

#[test]
fn halt_forgotten_after_timeout() {
    for (bug, after) in [(None, vec![]), (Some(ProducerBug::HaltForgottenAfterTimeout), vec!["2"])] {
        let mut p = pipeline(|o| o.bug = bug);
        send(&mut p, "s", "1").unwrap();
        runs(&mut p);
        p.enqueue(at(5), id("s"), Content::new("2"), at(35)).unwrap();
        p.tick(at(30));
        assert_eq!(handed(&mut p), after);
        // The one that timed out is still kept, and can be sent again: behind the other.
        p.resume(at(31), &id("s"), Resume::Resend, at(60));
        p.tick(at(100));
    }
}

#[test]
fn accepts_while_halted() {
    for (bug, after) in [(None, vec![]), (Some(ProducerBug::AcceptsWhileHalted), vec!["3"])] {
        let (mut p, run) = pair(bug);
        p.on_sent(at(1), refused(run.ticket));
        assert_eq!(send(&mut p, "s", "3").is_ok(), bug.is_some());
        assert_eq!(handed(&mut p), after);
    }
}
