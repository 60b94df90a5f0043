//! Connecting by URL: the scheme says which backend it is.

use convoy::{ErrorKind, connect};

async fn refused(url: &str) -> String {
    let error = connect(url).await.expect_err(url);
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    error.to_string()
}

#[tokio::test]
async fn an_unknown_scheme_is_named_beside_the_known_ones() {
    let said = refused("carrier-pigeon://loft").await;
    assert!(said.contains("`carrier-pigeon`") && said.contains("`memory://`"), "{said}");
}

#[tokio::test]
async fn what_is_no_url_is_not_shown() {
    let said = refused("someone:secret@host").await;
    assert!(said.contains("no scheme") && !said.contains("secret"), "{said}");
}

#[cfg(feature = "memory")]
#[tokio::test]
async fn memory_is_there_and_names_a_wrong_option() {
    assert_eq!(connect("memory://there").await.expect("a broker").name(), "memory");
    let said = refused("memory://there?lane=8").await;
    assert!(said.contains("`lane`"), "{said}");
}

#[cfg(not(feature = "memory"))]
#[tokio::test]
async fn a_backend_that_is_not_built_names_its_feature() {
    let said = refused("memory://there").await;
    assert!(said.contains("feature `memory`"), "{said}");
}

#[cfg(not(feature = "kafka"))]
#[tokio::test]
async fn kafka_names_its_feature() {
    let said = refused("kafka://127.0.0.1").await;
    assert!(said.contains("feature `kafka`"), "{said}");
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn kafka_is_there_and_names_a_wrong_option() {
    let said = refused("kafka://127.0.0.1?lane=8").await;
    assert!(said.contains("`lane`"), "{said}");
}
