//! How a handler says that it did not handle a message.

use std::error::Error as StdError;
use std::fmt;

use crate::engine::Then;
use crate::error::Error;

/// Why a message was not handled, and what is to follow.
///
/// Any error converts into "try again", so `?` needs no annotation: those of the standard library, a `Box<dyn Error + Send + Sync>` and what
/// converts into one, as `anyhow::Error` and plain text do. The constructors say the rest. It is deliberately no [`std::error::Error`] itself.
///
/// ```
/// use convoy_core::Failure;
///
/// fn parse(text: &str) -> Result<(), Failure> {
///     let _: u32 = text.parse()?; // an error: tried again, in place
///     Ok(())
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
///
/// fn look_up(item: &str) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Err(format!("no {item} left"))?
/// }
/// fn order(item: &str) -> Result<(), Failure> {
///     look_up(item)?;
///     Err("that cannot be")?
/// }
/// assert_eq!(order("tea").unwrap_err().to_string(), "no tea left");
/// ```
#[derive(Debug)]
pub struct Failure {
    pub(crate) then: Then,
    pub(crate) detail: String,
}

impl Failure {
    /// Try again, as the retry policy says.
    #[must_use]
    pub fn retry(why: impl fmt::Display) -> Self {
        Self { then: Then::Retry, detail: why.to_string() }
    }

    /// Put the message into the dead-letter store at once; its session goes on behind it.
    #[must_use]
    pub fn dead_letter(why: impl fmt::Display) -> Self {
        Self { then: Then::DeadLetter, detail: why.to_string() }
    }

    /// Stop the processor: it drains and returns this error. The message stays the head of its session.
    #[must_use]
    pub fn stop(why: impl fmt::Display) -> Self {
        Self { then: Then::Stop, detail: why.to_string() }
    }

    /// The body could not be read, which is followed by what the consumer does with such.
    pub(crate) fn undecodable(error: Error, then: Then) -> Self {
        Self { then, detail: Self::from(error).detail }
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(e) = cause {
            detail.push_str(": ");
            detail.push_str(&e.to_string());
            cause = e.source();
        }
        Self { then: Then::Retry, detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
