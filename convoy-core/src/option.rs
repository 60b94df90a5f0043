//! Reading the values of options, as they stand in a URL: one grammar for every backend.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// A failure that names the option and says what is wrong with it.
#[must_use]
pub fn invalid(name: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOption, "options").because(why).with("option", name)
}

/// A whole number.
///
/// # Errors
/// [`InvalidOption`](ErrorKind::InvalidOption), naming the option, when it is none or too large.
pub fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| wrong(name, value, "a whole number that is not too large"))
}

/// `true` or `false`.
///
/// # Errors
/// [`InvalidOption`](ErrorKind::InvalidOption), naming the option.
pub fn flag(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, value, "`true` or `false`")),
    }
}

/// A size: `4096`, `64KiB`, `1MiB`, `2GiB`.
///
/// # Errors
/// [`InvalidOption`](ErrorKind::InvalidOption), naming the option.
pub fn bytes<T: TryFrom<u64>>(name: &str, value: &str) -> Result<T> {
    let (digits, unit) = split(value);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let size = digits.parse::<u64>().ok().filter(|_| scale > 0).and_then(|n| n.checked_mul(scale));
    size.and_then(|n| T::try_from(n).ok()).ok_or_else(|| wrong(name, value, "a size like `4096`, `64KiB`, `1MiB`"))
}

/// A duration: `250ms`, `30s`, `5m`.
///
/// # Errors
/// [`InvalidOption`](ErrorKind::InvalidOption), naming the option.
///
/// ```
/// use std::time::Duration;
/// use convoy_core::option;
///
/// assert_eq!(option::duration("lock", "250ms").unwrap(), Duration::from_millis(250));
/// let error = option::duration("lock", "30").unwrap_err();
/// assert_eq!(error.to_string(), "options: `lock` wants a duration like `250ms`, `30s`, `5m`, not `30` (option=lock)");
/// ```
pub fn duration(name: &str, value: &str) -> Result<Duration> {
    let (digits, unit) = split(value);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => 0,
    };
    let total = digits.parse::<u64>().ok().filter(|_| nanos > 0).and_then(|n| n.checked_mul(nanos));
    total.map(Duration::from_nanos).ok_or_else(|| wrong(name, value, "a duration like `250ms`, `30s`, `5m`"))
}

fn split(value: &str) -> (&str, &str) {
    value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()))
}

fn wrong(name: &str, value: &str, wants: &str) -> Error {
    let shown: String = value.escape_debug().take(64).collect();
    invalid(name, format!("`{name}` wants {wants}, not `{shown}`"))
}
