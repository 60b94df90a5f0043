//! Bodies as types: raw bytes always, JSON behind the feature `json`.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Content;

/// A type that a body can be read as.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something that a message's body can be read as",
    label = "not a payload",
    note = "take `Received<Bytes>` for the raw body, `Received<String>` for text, `Received<Json<T>>` for a type with `serde::Deserialize`, or implement `Payload`"
)]
pub trait Payload: Sized + Send + 'static {
    /// Reads the body.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`], saying what was expected. A body that cannot be read is the handler's failure: it takes the path of exhausted attempts.
    fn decode(content: &Arc<Content>) -> Result<Self>;
}

impl Payload for Bytes {
    fn decode(content: &Arc<Content>) -> Result<Self> {
        Ok(content.body().clone())
    }
}

/// The whole content, body and headers, without a copy.
impl Payload for Arc<Content> {
    fn decode(content: &Arc<Content>) -> Result<Self> {
        Ok(Self::clone(content))
    }
}

impl Payload for String {
    fn decode(content: &Arc<Content>) -> Result<Self> {
        let text = std::str::from_utf8(content.body())
            .map_err(|e| Error::new(ErrorKind::Codec, "decode").because("the body is not UTF-8 text").caused_by(e))?;
        Ok(text.to_owned())
    }
}

/// A body in JSON. Use it as the type that it holds: it dereferences to it.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned + Send + 'static> Payload for Json<T> {
    fn decode(content: &Arc<Content>) -> Result<Self> {
        serde_json::from_slice(content.body()).map(Json).map_err(|e| {
            let what = format!("the body is not JSON of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::Codec, "decode").because(what).caused_by(e)
        })
    }
}

#[cfg(feature = "json")]
impl<T: crate::message::MessageType> crate::message::MessageType for Json<T> {
    const NAME: &'static str = T::NAME;
}

#[cfg(feature = "json")]
impl<T> std::ops::Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
