//! What things are called at the broker.

use convoy_core::{Error, ErrorKind, Result};

/// The longest name of a topic.
const MOST: usize = 249;

/// The names of one consumer group.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) channel: String,
    pub(crate) group: String,
}

impl Names {
    /// Checks that every name fits, so that the others cannot fail.
    pub(crate) fn new(channel: &str, group: &str) -> Result<Self> {
        self::channel(channel)?;
        if group.is_empty() || group.contains('.') || !is_legal(group) {
            let why = "a consumer group's name has letters, digits, `-` and `_`, at least one of them: it is a part of the name of its dead-letter topic";
            return Err(wrong("group", group, why));
        }
        let names = Self { channel: channel.to_owned(), group: group.to_owned() };
        if names.dead().len() > MOST {
            let why =
                "channel and group are too long together: the dead-letter topic's name has at most 249 characters";
            return Err(wrong("channel", channel, why));
        }
        Ok(names)
    }

    /// The dead-letter store.
    pub(crate) fn dead(&self) -> String {
        format!("{}.{}.dead", self.channel, self.group)
    }
}

/// Checks the name of a channel, which is that of its topic.
pub(crate) fn channel(channel: &str) -> Result<()> {
    match channel {
        "" => Err(wrong("channel", channel, "a channel's name has at least one character")),
        "." | ".." => Err(wrong("channel", channel, "a topic cannot have this name")),
        _ if channel.len() > MOST => Err(wrong("channel", channel, "a topic's name has at most 249 characters")),
        _ if !is_legal(channel) => {
            Err(wrong("channel", channel, "a topic's name has letters, digits, `.`, `-` and `_`"))
        }
        _ if channel.starts_with("__") => {
            Err(wrong("channel", channel, "names that start with `__` are the broker's own"))
        }
        _ => Ok(()),
    }
}

fn is_legal(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn wrong(what: &'static str, name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOption, "name").because(why).with(what, name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused() {
        let long = "c".repeat(250);
        for (channel, group) in
            [("", "g"), (".", "g"), ("..", "g"), ("a b", "g"), ("a/b", "g"), ("é", "g"), ("__x", "g"), (&long, "g")]
        {
            assert_eq!(Names::new(channel, group).unwrap_err().kind(), ErrorKind::InvalidOption, "{channel}/{group}");
        }
        for group in ["", "a.b", "a b", "ü"] {
            assert_eq!(Names::new("c", group).unwrap_err().kind(), ErrorKind::InvalidOption, "{group}");
        }
        assert!(Names::new(&"c".repeat(239), "grou").is_ok());
        assert!(Names::new(&"c".repeat(240), "group").is_err());
        assert_eq!(Names::new("orders.eu", "billing").unwrap().dead(), "orders.eu.billing.dead");
    }
}
