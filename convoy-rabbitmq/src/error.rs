//! What the client library's errors mean: the only file that looks into them.

use convoy_core::{Error, ErrorKind, Finding, Outcome, Scope};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::permissions;

/// What an error of the client library means for a request that had no effect yet, or may have had one.
///
/// A request on an AMQP channel that the broker closed with a soft error was refused, or came after one that was. An error of the connection leaves what was under way
/// unknown; whoever asks knows whether it can have had an effect.
pub(crate) fn of(error: lapin::Error, operation: &'static str) -> Error {
    let (kind, scope) = meaning(&error);
    let mut it = Error::new(kind, operation).with_scope(scope);
    if let Some(said) = said(&error) {
        it = it.with("broker", said);
    }
    if let Some(why) = about_tls(&error) {
        it = it.because(why);
    }
    if operation == "connect" && matches!(error.kind(), lapin::ErrorKind::ParsingError(_)) {
        it = it.because("what answers does not speak AMQP 0-9-1; a port of TLS wants `amqps://`");
    }
    it.caused_by(error)
}

/// Kind and scope of an error.
fn meaning(error: &lapin::Error) -> (ErrorKind, Scope) {
    use lapin::ErrorKind as L;
    match error.kind() {
        L::ProtocolError(e) => match e.kind() {
            AMQPErrorKind::Soft(soft) => (of_soft(soft), Scope::Delivery),
            AMQPErrorKind::Hard(hard) => of_hard(hard),
        },
        L::IOError(_) if about_tls(error).is_some() => (ErrorKind::Unauthorized, Scope::Client),
        L::IOError(_) | L::MissingHeartbeatError | L::InvalidConnectionState(_) => {
            (ErrorKind::Disconnected, Scope::Connection)
        }
        L::InvalidChannelState(..) | L::InvalidChannel(_) => (ErrorKind::Disconnected, Scope::Connection),
        L::ChannelsLimitReached => (ErrorKind::Backpressure, Scope::Connection),
        L::InvalidProtocolVersion(_) => (ErrorKind::Unsupported, Scope::Client),
        L::AuthProviderError(_) => (ErrorKind::Unauthorized, Scope::Client),
        _ => (ErrorKind::Unknown, Scope::Connection),
    }
}

fn of_soft(soft: &AMQPSoftError) -> ErrorKind {
    match soft {
        AMQPSoftError::CONTENTTOOLARGE => ErrorKind::TooLarge,
        AMQPSoftError::NOTFOUND | AMQPSoftError::NOROUTE => ErrorKind::NotFound,
        AMQPSoftError::ACCESSREFUSED => ErrorKind::Unauthorized,
        AMQPSoftError::PRECONDITIONFAILED => ErrorKind::Topology,
        AMQPSoftError::RESOURCELOCKED | AMQPSoftError::NOCONSUMERS => ErrorKind::Refused,
    }
}

fn of_hard(hard: &AMQPHardError) -> (ErrorKind, Scope) {
    match hard {
        AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH => (ErrorKind::Unauthorized, Scope::Client),
        AMQPHardError::CONNECTIONFORCED | AMQPHardError::RESOURCEERROR | AMQPHardError::INTERNALERROR => {
            (ErrorKind::Disconnected, Scope::Connection)
        }
        AMQPHardError::NOTIMPLEMENTED => (ErrorKind::Unsupported, Scope::Client),
        _ => (ErrorKind::Unknown, Scope::Connection),
    }
}

/// What the broker said. It never repeats a password; it does name the user.
fn said(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(e) => Some(e.get_message().as_str().to_owned()),
        _ => None,
    }
}

/// Why TLS failed. What its library says names the fault; what is to be done about it, and on which side, is said here.
fn about_tls(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        lapin::ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::InvalidData => Some(tls(&io.to_string())),
        _ => None,
    }
}

fn tls(said: &str) -> String {
    /// What a broker says of a client's certificate that it does not take.
    const OF_CLIENTS: &[&str] =
        &["UnknownCA", "BadCertificate", "CertificateExpired", "CertificateUnknown", "AccessDenied"];
    let why = if said.contains("InvalidContentType") {
        "the port does not speak TLS"
    } else if said.contains("keys may not be consistent") {
        "`tls_key` is not the key of `tls_cert`"
    } else if said.contains("CertificateRequired") {
        "the broker asks for a certificate of this client: name one with `tls_cert` and `tls_key`"
    } else if said.contains("alert") && OF_CLIENTS.iter().any(|alert| said.contains(alert)) {
        "the broker does not accept this client's certificate (`tls_cert`)"
    } else if said.contains("peer certificate") {
        "the broker's certificate is not accepted"
    } else {
        "TLS failed"
    };
    format!("{why}: {said}")
}

/// Whether a failure is one of an AMQP channel alone, as long as its connection stands.
pub(crate) fn is_of_channel(error: &lapin::Error) -> bool {
    use lapin::ErrorKind as L;
    error.is_amqp_soft_error() || matches!(error.kind(), L::InvalidChannelState(..) | L::InvalidChannel(_))
}

/// Whether the broker says that it is there and closed to everybody else: an exclusive queue of a connection that lives.
pub(crate) fn is_locked(error: &lapin::Error) -> bool {
    soft(error) == Some(&AMQPSoftError::RESOURCELOCKED)
}

/// Whether the broker says that there is no such thing.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    soft(error) == Some(&AMQPSoftError::NOTFOUND)
}

/// Whether the broker does not know an exchange's type. A newer one refuses that, an older one ends the connection.
pub(crate) fn is_unknown_type(error: &lapin::Error) -> bool {
    said(error).is_some_and(|said| said.contains("unknown exchange type") || said.contains("invalid exchange type"))
}

/// What the broker says of a declaration that does not fit what is there.
pub(crate) fn mismatch(error: &lapin::Error) -> Option<String> {
    (soft(error) == Some(&AMQPSoftError::PRECONDITIONFAILED)).then(|| said(error)).flatten()
}

/// What the broker says when it does not allow something.
pub(crate) fn forbidden(error: &lapin::Error) -> Option<String> {
    (soft(error) == Some(&AMQPSoftError::ACCESSREFUSED)).then(|| said(error)).flatten()
}

fn soft(error: &lapin::Error) -> Option<&AMQPSoftError> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(e) => match e.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Whether trying again can help, of a failure to connect.
pub(crate) fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Unsupported | ErrorKind::InvalidOption)
}

pub(crate) fn disconnected(operation: &'static str) -> Error {
    Error::new(ErrorKind::Disconnected, operation)
}

pub(crate) fn no_answer(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation).because("the broker did not answer in time")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
}

pub(crate) fn named_on_lanes() -> Error {
    Error::new(ErrorKind::Unsupported, "accept").because("RabbitMQ assigns lanes and no single sessions")
}

/// Its sender stopped waiting before it could leave.
pub(crate) fn too_late() -> Error {
    Error::new(ErrorKind::Timeout, "send").with_outcome(Outcome::NotApplied)
}

/// The broker has an alarm and takes nothing; this has not left.
pub(crate) fn blocked() -> Error {
    Error::new(ErrorKind::Backpressure, "send")
        .because("the broker blocks publishers: an alarm of its memory or disk, or a flow limit")
}

/// It left, and no answer came.
pub(crate) fn unknown(why: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "send").because(why)
}

pub(crate) fn unroutable(channel: &str) -> Error {
    Error::new(ErrorKind::NotFound, "send")
        .because("no queue took it: the channel has no consumer group with a lane for this session; provision one")
        .with("channel", channel)
}

pub(crate) fn not_there(operation: &'static str, what: &'static str, channel: &str, cause: Error) -> Error {
    Error::new(ErrorKind::NotFound, operation).because(what).with("channel", channel).caused_by(cause)
}

/// What breaks a guarantee; where that is nothing but what the user may not do, it is that.
pub(crate) fn topology(channel: &str, group: &str, findings: &[&Finding]) -> Error {
    let forbidden = findings.iter().all(|finding| finding.code == permissions::CODE);
    let said: Vec<String> = findings.iter().map(|finding| finding.to_string()).collect();
    Error::new(if forbidden { ErrorKind::Unauthorized } else { ErrorKind::Topology }, "open consumer")
        .because(said.join("; "))
        .with("channel", channel)
        .with("group", group)
}

/// A lane's queue is gone from the broker.
pub(crate) fn lane_gone(queue: &str, cause: Error) -> Error {
    Error::new(ErrorKind::NotFound, "consume")
        .because("a lane's queue is gone: what was in it is lost, and nothing keeps what is sent to it; provision the group again")
        .with("queue", queue)
        .with_scope(Scope::Client)
        .caused_by(cause)
}

/// A slot does not lead to its lane any more.
pub(crate) fn unbound(queue: &str, slot: u32, channel: &str) -> Error {
    Error::new(ErrorKind::Topology, "consume")
        .because("a lane's binding is gone: what is sent to this slot does not come to this group; provision the group again")
        .with("queue", queue)
        .with("slot", slot)
        .with("channel", channel)
        .with_scope(Scope::Client)
}

/// What a refusal for want of a permission means: which one, and on what. Older brokers name the thing alone. Other failures stay as they are.
pub(crate) fn lacks(why: Error, permission: &'static str, what: &'static str, name: &str) -> Error {
    if why.kind() != ErrorKind::Unauthorized || why.scope() != Scope::Delivery {
        return why;
    }
    Error::new(ErrorKind::Unauthorized, why.operation())
        .because(format!("this user lacks the permission `{permission}` on the {what} `{name}`"))
        .with(what, name)
        .with_scope(Scope::Client)
        .caused_by(why)
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn from(code: u16, text: &str) -> Error {
        let error = AMQPError::from_id(code, text.into()).unwrap();
        of(lapin::ErrorKind::ProtocolError(error).into(), "test")
    }

    #[test]
    fn codes_have_meanings() {
        use ErrorKind as K;
        for (code, kind, scope) in [
            (311, K::TooLarge, Scope::Delivery),
            (312, K::NotFound, Scope::Delivery),
            (313, K::Refused, Scope::Delivery),
            (403, K::Unauthorized, Scope::Delivery),
            (404, K::NotFound, Scope::Delivery),
            (405, K::Refused, Scope::Delivery),
            (406, K::Topology, Scope::Delivery),
            (320, K::Disconnected, Scope::Connection),
            (402, K::Unauthorized, Scope::Client),
            (501, K::Unknown, Scope::Connection),
            (502, K::Unknown, Scope::Connection),
            (503, K::Unknown, Scope::Connection),
            (504, K::Unknown, Scope::Connection),
            (505, K::Unknown, Scope::Connection),
            (506, K::Disconnected, Scope::Connection),
            (530, K::Unauthorized, Scope::Client),
            (540, K::Unsupported, Scope::Client),
            (541, K::Disconnected, Scope::Connection),
        ] {
            let error = from(code, "WHAT - it said");
            assert_eq!((error.kind(), error.scope()), (kind, scope), "{code}");
            assert_eq!(error.context("broker"), Some("WHAT - it said"));
        }
    }

    /// In the words of rustls, which are no promise of its: the tests with a real broker hold them to it.
    #[test]
    fn what_tls_says_is_told_with_what_to_do() {
        for (said, told) in [
            ("received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("received fatal alert: CertificateRequired", "`tls_cert` and `tls_key`"),
            ("keys may not be consistent: KeyMismatch", "`tls_key` is not the key"),
            ("received fatal alert: UnknownCA", "does not accept this client's certificate"),
            ("invalid peer certificate: UnknownIssuer", "the broker's certificate is not accepted"),
            ("received fatal alert: HandshakeFailure", "TLS failed"),
        ] {
            let io = std::io::Error::new(std::io::ErrorKind::InvalidData, said);
            let error = of(lapin::Error::from(io), "connect");
            assert_eq!((error.kind(), error.scope()), (ErrorKind::Unauthorized, Scope::Client), "{said}");
            let shown = error.to_string();
            assert!(shown.contains(told) && shown.contains(said), "{shown}");
        }
    }

    #[test]
    fn an_unknown_error_is_not_retryable() {
        let error = of(lapin::ErrorKind::FutureCompleted.into(), "test");
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert!(!error.is_retryable());
    }
}
