//! The events: read from a file, or generated.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use convoy::{Message, MessageId, SessionId};
use serde::Deserialize;
use serde_json::Value;

/// The longest line that is read, and so the largest body.
const LONGEST: u64 = 1 << 20;

/// How many malformed lines are told one by one.
const TOLD: usize = 100;

/// What is to be sent, in order, and what cannot be.
pub(crate) struct Input {
    pub(crate) messages: Vec<Message>,
    /// Line numbers, and what is wrong there.
    pub(crate) malformed: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct Event {
    session: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
    time: Option<String>,
    #[serde(default)]
    body: Value,
}

impl Input {
    /// Reads a file of events. A line that is none is put down with its number; the others count.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut input = Self { messages: Vec::new(), malformed: Vec::new() };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if file.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
                skip_line(&mut file).map_err(failed)?;
                input.malformed.push((number, format!("longer than {LONGEST} bytes")));
            } else if !line.trim_ascii().is_empty() {
                match event(&line) {
                    Ok(message) => input.messages.push(message),
                    Err(why) => input.malformed.push((number, why)),
                }
            }
        }
        Ok(input)
    }

    /// 200 orders with 50 events each, mixed.
    pub(crate) fn generated(seed: u64) -> Result<Self, convoy::Error> {
        const STEPS: [&str; 5] = ["placed", "changed", "paid", "packed", "shipped"];
        let mut turns: Vec<u32> = (0..200).flat_map(|order| [order; 50]).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut turns);
        let mut steps: HashMap<u32, usize> = HashMap::new();
        let mut messages = Vec::with_capacity(turns.len());
        for order in turns {
            let step = steps.entry(order).and_modify(|step| *step += 1).or_insert(1);
            let body = serde_json::json!({ "order": order, "step": *step });
            let message = Message::json(format!("order-{order}"), &body)?;
            messages.push(message.with_type(STEPS[(*step - 1) * STEPS.len() / 50]));
        }
        Ok(Self { messages, malformed: Vec::new() })
    }

    /// Says which lines are none.
    pub(crate) fn tell(&self) {
        for (number, why) in self.malformed.iter().take(TOLD) {
            say!("malformed: line {number}: {why}");
        }
        if self.malformed.len() > TOLD {
            say!("malformed: and {} more", self.malformed.len() - TOLD);
        }
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.messages.iter().map(Message::session).collect::<HashSet<_>>().len()
    }

    /// Draws so many messages, each of another session.
    pub(crate) fn choose(&self, count: usize, seed: u64) -> Result<HashSet<MessageId>, String> {
        let mut of: HashMap<&SessionId, Vec<MessageId>> = HashMap::new();
        for message in &self.messages {
            of.entry(message.session()).or_default().push(message.id());
        }
        let mut sessions: Vec<_> = of.into_iter().collect();
        if count > sessions.len() {
            return Err(format!("--poison {count} wants as many sessions; there are {}", sessions.len()));
        }
        sessions.sort();
        let mut random = fastrand::Rng::with_seed(seed);
        random.shuffle(&mut sessions);
        Ok(sessions.iter().take(count).filter_map(|(_, ids)| random.choice(ids).copied()).collect())
    }
}

/// What is wrong with a line; where in it is the column, since the line is told already.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match error.column() {
        0 => format!("no event in JSON: {what}"),
        column => format!("no event in JSON: {what}, at column {column}"),
    }
}

fn event(line: &[u8]) -> Result<Message, String> {
    let event: Event = serde_json::from_slice(line).map_err(|e| not_json(&e))?;
    let session = match event.session {
        Some(Value::String(session)) => session,
        Some(_) => return Err("`session` is not text".to_owned()),
        None => return Err("no `session`".to_owned()),
    };
    let message = Message::json(session, &event.body).map_err(|e| e.to_string())?;
    let message = message.with_type(event.kind.unwrap_or_default());
    match event.time {
        Some(time) => message.with_header("time", &time).map_err(|e| e.to_string()),
        None => Ok(message),
    }
}

fn skip_line(file: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(used);
        if done {
            return Ok(());
        }
    }
}
