//! What the client library's errors mean: the only file that looks into them.

use convoy_core::backend::Answer;
use convoy_core::{Error, ErrorKind, Finding, Outcome, Scope};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What one code means.
struct Meaning {
    kind: ErrorKind,
    scope: Scope,
    /// Whether a record or a commit that ended so is certainly not applied.
    applied: Applied,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    Not,
    Perhaps,
}

/// The one table.
fn meaning(code: Code) -> Meaning {
    use Applied::{Not, Perhaps};
    use ErrorKind as K;
    use Scope as S;
    let (kind, scope, applied) = match code {
        // Of the record itself: no attempt of it can have been taken.
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            (K::TooLarge, S::Delivery, Not)
        }
        Code::InvalidMessage | Code::BadMessage | Code::InvalidTimestamp | Code::UnsupportedForMessageFormat => {
            (K::InvalidMessage, S::Delivery, Not)
        }
        Code::PolicyViolation => (K::Refused, S::Delivery, Not),
        Code::QueueFull => (K::Backpressure, S::Delivery, Not),
        // It did not leave.
        Code::PurgeQueue => (K::Closed, S::Client, Not),
        Code::UnknownTopic | Code::UnknownPartition => (K::NotFound, S::Delivery, Not),
        Code::InvalidTopic => (K::InvalidOption, S::Client, Not),
        // An earlier attempt may have been taken before it was so.
        Code::UnknownTopicOrPartition => (K::NotFound, S::Delivery, Perhaps),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend | Code::ISRInsufficient => {
            (K::OutcomeUnknown, S::Delivery, Perhaps)
        }
        Code::MessageTimedOut | Code::TimedOutQueue | Code::PurgeInflight => (K::OutcomeUnknown, S::Session, Perhaps),
        // Who it is, and what that one may do.
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => (K::Unauthorized, S::Client, Not),
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => (K::Unauthorized, S::Client, Perhaps),
        // A commit that the coordinator did not take: the whole request.
        Code::RebalanceInProgress | Code::IllegalGeneration | Code::CoordinatorLoadInProgress => {
            (K::Refused, S::Session, Not)
        }
        Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost => (K::LockLost, S::Session, Not),
        Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize => (K::TooLarge, S::Session, Perhaps),
        Code::WaitingForCoordinator => (K::Disconnected, S::Connection, Perhaps),
        // The connection, and who is behind it.
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotController => (K::Disconnected, S::Connection, Perhaps),
        Code::OperationTimedOut | Code::RequestTimedOut => (K::Timeout, S::Connection, Perhaps),
        // The set-up.
        Code::TopicAlreadyExists | Code::InvalidPartitions | Code::InvalidReplicationFactor | Code::InvalidConfig => {
            (K::Topology, S::Client, Not)
        }
        Code::InvalidSessionTimeout | Code::InconsistentGroupProtocol | Code::InvalidGroupId => {
            (K::InvalidOption, S::Client, Not)
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented => (K::Unsupported, S::Client, Not),
        Code::BrokerDestroy | Code::DestroyBroker => (K::Closed, S::Client, Perhaps),
        _ => (K::Unknown, S::Connection, Perhaps),
    };
    Meaning { kind, scope, applied }
}

/// The code of a failure, where it has one.
pub(crate) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What an error of the client library means for a request that had no effect yet, or may have had one.
pub(crate) fn of(error: KafkaError, operation: &'static str) -> Error {
    let Some(code) = code(&error) else {
        let of_set_up = matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_));
        let (kind, scope) = match of_set_up {
            true => (ErrorKind::InvalidOption, Scope::Client),
            false => (ErrorKind::Unknown, Scope::Connection),
        };
        return Error::new(kind, operation).with_scope(scope).caused_by(error);
    };
    of_code(code, operation).caused_by(error)
}

/// What a code means.
pub(crate) fn of_code(code: Code, operation: &'static str) -> Error {
    let Meaning { kind, scope, applied } = meaning(code);
    let outcome = if applied == Applied::Not { Outcome::NotApplied } else { Outcome::Unknown };
    Error::new(kind, operation).with_scope(scope).with_outcome(outcome).with("code", format!("{code:?}"))
}

/// How a copy that was sent with this outcome is answered.
pub(crate) fn answer_of_send(error: &KafkaError) -> Answer {
    match code(error).map(|code| meaning(code).applied) {
        Some(Applied::Not) => Answer::NotApplied,
        _ => Answer::Unknown,
    }
}

/// How a commit ended that failed so. One of several lanes may have been taken for some of them.
pub(crate) fn answer_of_commit(error: &KafkaError) -> Answer {
    match code(error) {
        Some(Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost) => Answer::Refused,
        Some(code) if meaning(code).applied == Applied::Not && meaning(code).scope == Scope::Session => {
            Answer::NotApplied
        }
        _ => Answer::Unknown,
    }
}

/// Whether the client is of no use any more.
pub(crate) fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_)) || code(error) == Some(Code::Fatal)
}

/// Whether nobody can be reached.
pub(crate) fn is_down(error: &KafkaError) -> bool {
    code(error) == Some(Code::AllBrokersDown)
}

/// Whether a position is not there, with nothing said on what to do then.
pub(crate) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(code(error), Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation))
}

/// Whether the client library takes no more for the moment.
pub(crate) fn is_full(error: &KafkaError) -> bool {
    code(error) == Some(Code::QueueFull)
}

/// Whether something is there already.
pub(crate) fn is_there(code: Code) -> bool {
    code == Code::TopicAlreadyExists
}

/// Whether there is no such topic.
pub(crate) fn is_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
}

/// What ends a consumer, of what it is told beside messages; everything else passes.
pub(crate) fn ends_a_consumer(error: &KafkaError) -> bool {
    let of_group = |code| {
        matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::InvalidSessionTimeout
                | Code::InconsistentGroupProtocol
                | Code::InvalidGroupId
        )
    };
    is_fatal(error) || code(error).is_some_and(of_group)
}

pub(crate) fn no_answer(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation).because("the broker did not answer in time")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
}

pub(crate) fn no_thread(operation: &'static str, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Unknown, operation).because("no thread could be started").caused_by(cause)
}

pub(crate) fn named_on_lanes() -> Error {
    Error::new(ErrorKind::Unsupported, "accept").because("Kafka assigns lanes and no single sessions")
}

/// Its sender stopped waiting before it could leave.
pub(crate) fn too_late() -> Error {
    Error::new(ErrorKind::Timeout, "send")
        .because("it could not leave in time: the broker does not answer")
        .with_outcome(Outcome::NotApplied)
}

/// It left, or may have, and no answer came.
pub(crate) fn unknown(why: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "send").because(why)
}

pub(crate) fn not_there(operation: &'static str, what: &'static str, channel: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation).because(what).with("channel", channel)
}

/// What breaks a guarantee.
pub(crate) fn topology(operation: &'static str, channel: &str, findings: &[&Finding]) -> Error {
    let said: Vec<String> = findings.iter().map(|finding| finding.to_string()).collect();
    Error::new(ErrorKind::Topology, operation).because(said.join("; ")).with("channel", channel)
}

/// The channel has another number of partitions than it had.
pub(crate) fn lanes_changed(operation: &'static str, channel: &str, pinned: u32, now: u32) -> Error {
    let why = format!(
        "the channel had {pinned} partitions and has {now} now: sessions moved to other lanes, and their order is lost. Let all groups handle what is there, then use a new channel; \
         the finding `lane-count` can be allowed by name where that is known to be done"
    );
    Error::new(ErrorKind::Topology, operation).because(why).with("channel", channel).with_scope(Scope::Client)
}

/// What was to be handled next is not there any more.
pub(crate) fn lost_range(channel: &str, group: &str, lane: u32, from: u64, to: u64) -> Error {
    let why = if from < to {
        format!(
            "the records {from} to {} of lane {lane} were removed before they were handled: the retention of the channel is too short, or they were deleted. Allow the finding `lost-range` by name to go \
             on behind them",
            to - 1
        )
    } else {
        format!(
            "the position of lane {lane} is {from}, and its log ends at {to}: records that were handled are gone from the broker, and others may stand in their place. Allow the finding `lost-range` by \
             name to go on at its end"
        )
    };
    Error::new(ErrorKind::NotFound, "consume")
        .because(why)
        .with("channel", channel)
        .with("group", group)
        .with("lane", lane)
        .with_scope(Scope::Client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_meanings() {
        use ErrorKind as K;
        use Outcome::{NotApplied, Unknown};
        for (code, kind, scope, outcome, retryable) in [
            (Code::MessageSizeTooLarge, K::TooLarge, Scope::Delivery, NotApplied, false),
            (Code::InvalidMessage, K::InvalidMessage, Scope::Delivery, NotApplied, false),
            (Code::PolicyViolation, K::Refused, Scope::Delivery, NotApplied, false),
            (Code::QueueFull, K::Backpressure, Scope::Delivery, NotApplied, true),
            (Code::UnknownTopic, K::NotFound, Scope::Delivery, NotApplied, false),
            (Code::UnknownTopicOrPartition, K::NotFound, Scope::Delivery, Unknown, false),
            (Code::MessageTimedOut, K::OutcomeUnknown, Scope::Session, Unknown, false),
            (Code::PurgeQueue, K::Closed, Scope::Client, NotApplied, false),
            (Code::PurgeInflight, K::OutcomeUnknown, Scope::Session, Unknown, false),
            (Code::NotEnoughReplicasAfterAppend, K::OutcomeUnknown, Scope::Delivery, Unknown, false),
            (Code::TopicAuthorizationFailed, K::Unauthorized, Scope::Client, NotApplied, false),
            (Code::SaslAuthenticationFailed, K::Unauthorized, Scope::Client, Unknown, false),
            (Code::BrokerTransportFailure, K::Disconnected, Scope::Connection, Unknown, false),
            (Code::AllBrokersDown, K::Disconnected, Scope::Connection, Unknown, false),
            (Code::OperationTimedOut, K::Timeout, Scope::Connection, Unknown, false),
            (Code::InvalidReplicationFactor, K::Topology, Scope::Client, NotApplied, false),
            (Code::InvalidSessionTimeout, K::InvalidOption, Scope::Client, NotApplied, false),
            (Code::UnsupportedVersion, K::Unsupported, Scope::Client, NotApplied, false),
            (Code::OutOfOrderSequenceNumber, K::Unknown, Scope::Connection, Unknown, false),
            (Code::Fatal, K::Unknown, Scope::Connection, Unknown, false),
        ] {
            let error = of(KafkaError::MessageProduction(code), "test");
            let seen = (error.kind(), error.scope(), error.outcome(), error.is_retryable());
            assert_eq!(seen, (kind, scope, outcome, retryable), "{code:?}");
        }
    }

    #[test]
    fn a_commit_is_refused_only_where_the_right_is_gone() {
        for (code, answer) in [
            (Code::UnknownMemberId, Answer::Refused),
            (Code::FencedInstanceId, Answer::Refused),
            (Code::AssignmentLost, Answer::Refused),
            (Code::RebalanceInProgress, Answer::NotApplied),
            (Code::IllegalGeneration, Answer::NotApplied),
            (Code::CoordinatorLoadInProgress, Answer::NotApplied),
            (Code::OffsetMetadataTooLarge, Answer::Unknown),
            (Code::TopicAuthorizationFailed, Answer::Unknown),
            (Code::NotCoordinator, Answer::Unknown),
            (Code::RequestTimedOut, Answer::Unknown),
            (Code::BrokerTransportFailure, Answer::Unknown),
            (Code::WaitingForCoordinator, Answer::Unknown),
        ] {
            assert_eq!(answer_of_commit(&KafkaError::ConsumerCommit(code)), answer, "{code:?}");
        }
    }

    #[test]
    fn an_unknown_error_is_not_retryable() {
        let error = of(KafkaError::Canceled, "test");
        assert_eq!(
            (error.kind(), error.outcome(), error.is_retryable()),
            (ErrorKind::Unknown, Outcome::Unknown, false)
        );
    }

    #[test]
    fn what_is_lost_is_named() {
        let said = lost_range("orders", "billing", 3, 5, 20).to_string();
        assert!(said.contains("5 to 19 of lane 3") && said.contains("channel=orders"), "{said}");
        let said = lost_range("orders", "billing", 3, 25, 20).to_string();
        assert!(said.contains("is 25") && said.contains("ends at 20"), "{said}");
    }
}
