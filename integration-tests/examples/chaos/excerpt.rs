//! What the histories say of one session: the evidence of a finding.

use std::fmt::Write;
use std::path::PathBuf;

use convoy_conformance::checker::Finding;
use convoy_conformance::history::{Event, GrantId, Merge, Place, What};
use hashbrown::HashSet;

/// The events of this session, the grants under which it was handled, and all faults, a line each.
pub(crate) fn of(files: &[PathBuf], finding: &Finding) -> Result<String, String> {
    let told = |e: std::io::Error| format!("histories: {e}");
    let mut grants = HashSet::<(u32, GrantId), foldhash::fast::RandomState>::default();
    for event in Merge::open(files).map_err(told)? {
        let event = event.map_err(told)?;
        if session(&event.what) == Some(finding.session)
            && let Some(grant) = grant(&event.what)
        {
            grants.insert((event.group, grant));
        }
    }
    let mut out = format!("{finding}\n\n");
    for event in Merge::open(files).map_err(told)? {
        let event = event.map_err(told)?;
        let its_own = session(&event.what) == Some(finding.session);
        let of_grant = matches!(event.what, What::Grant { .. } | What::Lost { .. })
            && grant(&event.what).is_some_and(|grant| grants.contains(&(event.group, grant)));
        let around = matches!(event.what, What::Fault { .. } | What::KillSent { .. } | What::Reaped { .. });
        if its_own || of_grant || around {
            let mark = if event.time == finding.time { ">" } else { " " };
            let _ = writeln!(out, "{mark} {:>18} p{:<4} {}", event.time, event.process, line(&event));
        }
    }
    Ok(out)
}

/// Without what is the same in each of them.
fn line(event: &Event) -> String {
    match event.what {
        What::SendReq { message, prev, .. } => format!("send {} behind {prev}", message.pseq),
        What::Send { message, outcome, .. } => format!("send {} {outcome:?}", message.pseq),
        What::Deliver { message, grant, position, .. } => {
            let at = position.map_or(0, |at| at.value);
            format!("    deliver {}/{} as {at} under {}/{}", message.producer, message.pseq, grant.consumer, grant.n)
        }
        What::Start { message, grant, attempt, checked_at, deadline, .. } => format!(
            "    start   {}/{} attempt {attempt} under {}/{}, {} ms before its deadline",
            message.producer,
            message.pseq,
            grant.consumer,
            grant.n,
            deadline.saturating_sub(checked_at) / 1_000_000
        ),
        What::End { message, how, .. } => format!("    end     {}/{} {how:?}", message.producer, message.pseq),
        What::SettleReq { message, .. } => format!("    settle? {}/{}", message.producer, message.pseq),
        What::Settle { message, answer, .. } => {
            format!("    settle  {}/{} {answer:?}", message.producer, message.pseq)
        }
        other => format!("{other:?}"),
    }
}

fn session(what: &What) -> Option<u64> {
    match what {
        What::SendReq { session, .. }
        | What::Send { session, .. }
        | What::Resume { session, .. }
        | What::Deliver { session, .. }
        | What::Start { session, .. }
        | What::End { session, .. }
        | What::SettleReq { session, .. }
        | What::Settle { session, .. }
        | What::Copied { session, .. }
        | What::Grant { place: Place::Session(session), .. } => Some(*session),
        _ => None,
    }
}

fn grant(what: &What) -> Option<GrantId> {
    match what {
        What::Grant { grant, .. }
        | What::Lost { grant, .. }
        | What::Deliver { grant, .. }
        | What::Start { grant, .. }
        | What::End { grant, .. } => Some(*grant),
        _ => None,
    }
}
