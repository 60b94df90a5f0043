//! What must never be written in plain text.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::ErrorKind;
use convoy_rabbitmq::{Options, RabbitBroker};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::stage::Stage;

crate::traps![amqps_is_never_spoken_in_plain_text, plain_text_to_another_host_has_to_be_meant];

/// What a client writes first to a port where it is listened for, if it connects at all.
async fn written(listener: &TcpListener, connect: impl Future<Output = ()>) -> Option<Vec<u8>> {
    let heard = async {
        let (mut client, _) = listener.accept().await.expect("accepted");
        let mut first = vec![0; 8];
        let read = client.read(&mut first).await.expect("read");
        first.truncate(read);
        first
    };
    // The client is done, or has written something.
    tokio::select! {
        biased;
        first = heard => Some(first),
        () = connect => timeout(Duration::from_millis(50), listener.accept()).await.ok().map(|_| Vec::new()),
    }
}

async fn amqps_is_never_spoken_in_plain_text(stage: Arc<Stage>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("amqps://me:secret@127.0.0.1:{port}");
    let by_url = Options::from_url(&url).err();
    if let Some(refused) = &by_url {
        assert_eq!((refused.kind(), refused.context("option")), (ErrorKind::InvalidOption, Some("url")), "{refused:?}");
        assert!(refused.to_string().contains("feature `tls`"), "{refused}");
        assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
    }
    let built = Options::new("127.0.0.1").port(port).credentials("me", "secret").tls(true);
    let connect = async {
        let refused = RabbitBroker::connect(built.connect_limit(Duration::from_secs(5))).await.err();
        let refused = refused.expect("nobody answers");
        assert_eq!(refused.kind(), ErrorKind::InvalidOption, "{refused:?}");
    };
    match (by_url, written(&listener, connect).await) {
        (Some(_), None) => stage.note("this build has no TLS: refused before anything was written"),
        // A handshake of TLS begins with this byte.
        (None, Some(first)) if first.first() == Some(&22) => stage.note("this build has TLS, and speaks it"),
        (refused, first) => panic!("refused: {refused:?}, written: {first:?}"),
    }
}

async fn plain_text_to_another_host_has_to_be_meant(_: Arc<Stage>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // This address leads here too, but is not the one of this host only.
    let options =
        || Options::new("0.0.0.0").port(port).credentials("me", "secret").connect_limit(Duration::from_secs(5));
    let refused = async {
        let refused = RabbitBroker::connect(options()).await.expect_err("refused");
        assert_eq!(
            (refused.kind(), refused.context("option")),
            (ErrorKind::InvalidOption, Some("plaintext")),
            "{refused:?}"
        );
        assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
    };
    assert_eq!(written(&listener, refused).await, None, "nothing is written");
    let meant = async { drop(RabbitBroker::connect(options().plaintext(true)).await) };
    assert_eq!(written(&listener, meant).await.as_deref(), Some(b"AMQP\0\0\x09\x01".as_slice()), "it was meant");
}
