//! Events of every kind.

use convoy_conformance::history::{
    Answer, Cause, Ended, Event, Fault, GrantId, Message, Phase, Place, Position, Reason, SettleKind, Side, Store, What,
};

const GRANT: GrantId = GrantId { consumer: 3, n: 4 };

/// At least one event of every kind.
pub fn samples() -> Vec<Event> {
    let (session, message, grant, version) = (u64::MAX - 1, Message { producer: 7, pseq: 1 << 40 }, GRANT, 11);
    let at = Some(Position { generation: 0, value: 0 });
    let mut kinds = vec![
        What::GroupStart,
        What::SendReq { session, message, prev: 5, hash: 6 },
        What::Resume { session, producer: 7 },
        What::Grant { place: Place::Lane(u32::MAX), grant, sent_at: 1, lock: u64::MAX },
        What::Grant { place: Place::Session(session), grant, sent_at: 1, lock: 2 },
        What::Renewed { grant, sent_at: 9 },
        What::Redrive { session, message },
        What::Purge { session, message },
        What::StateReq { session, grant, version },
        What::StateRead { session, grant, version },
        What::KillSent { target: 8 },
        What::Reaped { target: 8 },
    ];
    for position in [None, at] {
        for flag in [false, true] {
            kinds.push(What::Deliver { session, message, grant, hash: 1, position, malformed: flag });
            kinds.push(What::Effect { session, message, position, accepted: flag });
            let (checked_at, deadline) = (1, u64::MAX);
            let blocking = flag;
            kinds.push(What::Start { session, message, grant, attempt: 2, checked_at, deadline, position, blocking });
        }
        for outcome in [Answer::Ok, Answer::Refused, Answer::Unknown] {
            kinds.push(What::Send { session, message, outcome, position });
        }
    }
    for answer in [Answer::Ok, Answer::Refused, Answer::Unknown] {
        kinds.push(What::Settle { session, message, grant, answer });
        kinds.push(What::State { session, grant, version, answer });
        for store in [Store::Dead, Store::Parked] {
            kinds.push(What::Copied { session, message, grant, store, answer });
            kinds.push(What::Stored { session, message, store });
        }
    }
    for how in [Ended::Ok, Ended::Error, Ended::Panic, Ended::Cancelled] {
        kinds.push(What::End { session, message, grant, how });
    }
    for reason in [Reason::Exhausted, Reason::Explicit, Reason::Malformed] {
        kinds.push(What::SettleReq { session, message, grant, kind: SettleKind::Dead(reason) });
    }
    for kind in [SettleKind::Complete, SettleKind::Parked] {
        kinds.push(What::SettleReq { session, message, grant, kind });
    }
    for cause in [
        Cause::Drained,
        Cause::DrainCut,
        Cause::Revoked,
        Cause::Connection,
        Cause::Refused,
        Cause::Expired,
        Cause::Surrendered,
    ] {
        kinds.push(What::Lost { grant, cause });
    }
    for side in [Side::Client, Side::Broker, Side::Both] {
        for phase in [Phase::Begin, Phase::End] {
            for fault in [Fault::Freeze, Fault::NodeLoss, Fault::Other] {
                kinds.push(What::Fault { fault, side, phase, target: 3 });
            }
        }
    }
    let number = u64::MAX;
    kinds.into_iter().map(|what| Event { time: 1 << 60, process: 2, number, group: 9, what }).collect()
}
