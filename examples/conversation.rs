//! Many conversations with an assistant at once: what each is about is kept in the state of its session, so that the next consumer goes on where the one before it stopped, and the words of each
//! answer stream to the user in order.
//!
//! ```text
//! cargo run --release --example conversation
//! cargo run --release --example conversation -- --url "memory://?lanes=8"
//! cargo run --release --example conversation -- --forget        # the assistant keeps nothing, and it says so
//! cargo run --release --example conversation --features rabbitmq -- --url amqp://guest:guest@127.0.0.1:5672
//! ```
//!
//! On a broker that holds no session state, as lanes do, a store of the program's own keeps it, and `state=` says which it was. Ends with a `RESULT` line. The exit status is 0 only when every
//! answer is the one that the whole conversation before it makes, and each of its words came in its place.

mod shared;

use std::cmp::Ordering as Cmp;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use convoy::{
    Broker, Bytes, ChannelSpec, Consumer, Delivery, Failure, Guarantee, Json, Message, Producer, Received, Session,
    SessionId, Support, Topology, with_state,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

type Any = Box<dyn Error + Send + Sync>;

const PROMPTS: &str = "prompts";
const ANSWERS: &str = "answers";
const GROUP: &str = "assistant";
const READERS: &str = "screens";
/// Conversations that a consumer has in hand at once.
const AT_ONCE: usize = 8;
/// What a word takes.
const WORD: Duration = Duration::from_millis(1);
/// So long is a prompt waited for.
const SILENCE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(30);
const THINGS: [&str; 8] = ["apples", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey"];

#[derive(Serialize, Deserialize)]
struct Prompt {
    turn: usize,
    thing: String,
}

/// A word of an answer.
#[derive(Serialize, Deserialize)]
struct Word {
    turn: usize,
    at: usize,
    text: String,
    last: bool,
}

/// What was said before.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Context {
    things: Vec<String>,
}

/// What the assistant says to a prompt. A better one would think.
fn answer(context: &mut Context, thing: &str) -> String {
    context.things.push(thing.to_owned());
    format!("{} on the list: {}.", context.things.len(), context.things.join(", "))
}

/// Where contexts are kept.
enum Memory {
    /// In the session, at the broker: written only by whoever holds it.
    Session,
    /// In this program.
    Own(Mutex<HashMap<SessionId, Bytes>>),
    Nowhere,
}

impl Memory {
    async fn recall(&self, of: &Session) -> Result<Context, Any> {
        let kept = match self {
            Self::Session => of.state().await?,
            Self::Own(all) => all.lock().unwrap_or_else(PoisonError::into_inner).get(of.id()).cloned(),
            Self::Nowhere => None,
        };
        Ok(kept.map(|kept| serde_json::from_slice(&kept)).transpose()?.unwrap_or_default())
    }

    /// Before the prompt is settled: what is known to be answered is in the context.
    async fn keep(&self, prompt: &Delivery<'_, Json<Prompt>>, context: &Context) -> Result<(), Any> {
        let kept = Bytes::from(serde_json::to_vec(context)?);
        match self {
            Self::Session => prompt.set_state(Some(kept)).await?,
            Self::Own(all) => {
                all.lock().unwrap_or_else(PoisonError::into_inner).insert(prompt.session().clone(), kept);
            }
            Self::Nowhere => {}
        }
        Ok(())
    }
}

/// A consumer, and who answers from it.
struct Assistant {
    mine: String,
    consumer: Consumer,
    answers: Producer,
    memory: Arc<Memory>,
    ends: AtomicBool,
    answered: AtomicUsize,
}

impl Assistant {
    /// Answers one prompt of a conversation, then the next conversation has its turn.
    async fn work(self: Arc<Self>) -> convoy::Result<()> {
        while !self.ends.load(Ordering::Relaxed) {
            let Some(mut conversation) = self.consumer.accept_next(SILENCE).await? else { continue };
            // What is not answered when the right to it is lost comes again, to whoever has it then.
            if let Err(error) = self.turn(&mut conversation).await {
                println!("{}: {error}", conversation.id());
            }
            let _ = conversation.release(LIMIT).await;
        }
        Ok(())
    }

    async fn turn(&self, conversation: &mut Session) -> Result<(), Any> {
        let mut context = self.memory.recall(conversation).await?;
        let Some(prompt) = conversation.next::<Json<Prompt>>(SILENCE).await? else { return Ok(()) };
        let mine = prompt.session().to_string().starts_with(&self.mine);
        // What is in the context was answered, and comes again.
        if mine && prompt.body.turn >= context.things.len() {
            let text = answer(&mut context, &prompt.body.thing);
            self.say(prompt.session(), prompt.body.turn, &text).await?;
            self.memory.keep(&prompt, &context).await?;
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(prompt.complete().await?)
    }

    /// Streams an answer: each word leaves when it is there.
    async fn say(&self, to: &SessionId, turn: usize, text: &str) -> Result<(), Any> {
        let mut out = Vec::new();
        let mut words = text.split(' ').enumerate().peekable();
        while let Some((at, text)) = words.next() {
            let word = Word { turn, at, text: text.to_owned(), last: words.peek().is_none() };
            out.push(self.answers.send(Message::json(to.clone(), &word)?));
            tokio::time::sleep(WORD).await;
        }
        // The next answer may come from another program, so all of this one is there before.
        for sending in out {
            sending.await?;
        }
        Ok(())
    }
}

/// An assistant at work.
struct Working {
    assistant: Arc<Assistant>,
    tasks: Vec<JoinHandle<convoy::Result<()>>>,
}

impl Working {
    async fn start(broker: &Broker, mine: &str, memory: &Arc<Memory>) -> convoy::Result<Self> {
        let assistant = Arc::new(Assistant {
            mine: mine.to_owned(),
            consumer: broker.consumer(PROMPTS).group(GROUP).open().await?,
            answers: broker.producer(ANSWERS).await?,
            memory: Arc::clone(memory),
            ends: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
        });
        let tasks = (0..AT_ONCE).map(|_| tokio::spawn(Arc::clone(&assistant).work())).collect();
        Ok(Self { assistant, tasks })
    }

    /// Lets what is being said be said to its end. How many prompts it has answered.
    async fn end(self) -> Result<usize, Box<dyn Error>> {
        self.assistant.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        let Some(assistant) = Arc::into_inner(self.assistant) else { return Err("somebody still answers".into()) };
        assistant.answers.close(LIMIT).await?;
        assistant.consumer.close(LIMIT).await?;
        Ok(assistant.answered.into_inner())
    }
}

/// What the users see.
#[derive(Default)]
struct Screens {
    /// The answers of each conversation, word by word.
    answers: BTreeMap<String, Vec<Vec<String>>>,
    /// Which conversation had a word of which answer, in the order of their coming.
    course: Vec<(String, usize)>,
    complete: usize,
    repeated: usize,
    out_of_order: usize,
}

impl Screens {
    fn show(&mut self, conversation: String, word: Word) {
        let answers = self.answers.entry(conversation.clone()).or_insert_with(|| vec![Vec::new()]);
        let next = (answers.len() - 1, answers.last().map_or(0, Vec::len));
        match (word.turn, word.at).cmp(&next) {
            Cmp::Less => self.repeated += 1,
            Cmp::Greater => self.out_of_order += 1,
            Cmp::Equal => {
                answers[word.turn].push(word.text);
                self.course.push((conversation, word.turn));
                if word.last {
                    answers.push(Vec::new());
                    self.complete += 1;
                }
            }
        }
    }
}

#[derive(Clone, Default)]
struct Reader {
    mine: String,
    screens: Arc<Mutex<Screens>>,
}

impl Reader {
    fn screens(&self) -> MutexGuard<'_, Screens> {
        self.screens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(reader: Reader, word: Received<Json<Word>>) -> Result<(), Failure> {
    let conversation = word.session().to_string();
    if conversation.starts_with(&reader.mine) {
        reader.screens().show(conversation, word.body.0);
    }
    Ok(())
}

#[derive(Parser, Debug)]
struct Args {
    /// The broker
    #[arg(long, default_value = "memory://conversation")]
    url: String,
    /// How many conversations
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    conversations: u32,
    /// The assistant keeps no context
    #[arg(long)]
    forget: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    shared::exit("conversation", run(&Args::parse()).await)
}

async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let broker = convoy::connect(&args.url).await?;
    let prompts = ChannelSpec::new(PROMPTS).group(GROUP);
    broker.provision(&Topology::new().channel(prompts).channel(ChannelSpec::new(ANSWERS).group(READERS))).await?;
    let native = broker.guarantees().of(Guarantee::StateFencing).support != Support::Unsupported;
    let (memory, state) = match native {
        _ if args.forget => (Memory::Nowhere, "none"),
        true => (Memory::Session, "session"),
        false => (Memory::Own(Mutex::default()), "own"),
    };
    let memory = Arc::new(memory);
    let reader = Reader { mine: format!("chat-{:08x}-", fastrand::u32(..)), ..Reader::default() };
    let names: Vec<String> = (0..args.conversations).map(|at| format!("{}{at:03}", reader.mine)).collect();
    let total = names.len() * THINGS.len();
    println!(
        "{} conversations of {} prompts, {AT_ONCE} at once; context is kept in: {state}",
        names.len(),
        THINGS.len()
    );

    let screens = broker.consumer(ANSWERS).group(READERS).processor().start(with_state(reader.clone(), read)).await?;
    let first = Working::start(&broker, &reader.mine, &memory).await?;
    let users = broker.producer(PROMPTS).await?;
    for turn in 0..THINGS.len() {
        let prompt = |(at, name): (usize, &String)| {
            Message::json(name.as_str(), &Prompt { turn, thing: thing(at, turn).into() })
        };
        users.send_all(names.iter().enumerate().map(prompt).collect::<Result<Vec<_>, _>>()?).await?;
    }
    shared::until(total / 3, LIMIT, || reader.screens().complete).await;
    let second = Working::start(&broker, &reader.mine, &memory).await?;
    let by_first = first.end().await?;
    let complete = shared::until(total, LIMIT, || reader.screens().complete).await;
    let by_second = second.end().await?;
    screens.drain().await?;
    users.close(LIMIT).await?;
    broker.close(LIMIT).await?;

    let screens = reader.screens();
    let wrong: usize = names.iter().enumerate().map(|(at, name)| wrong(&screens, at, name)).sum();
    picture(&screens, &names);
    let held = wrong + screens.out_of_order == 0 && complete == total && by_first > 0 && by_second > 0;
    println!(
        "RESULT example=conversation conversations={} answers={complete} of={total} words={} wrong={wrong} out_of_order={} repeated={} \
         first={by_first} second={by_second} state={state} held={held}",
        names.len(),
        screens.course.len(),
        screens.out_of_order,
        screens.repeated,
    );
    Ok(held)
}

/// What the user of a conversation asks for.
fn thing(conversation: usize, turn: usize) -> &'static str {
    THINGS[(conversation + turn) % THINGS.len()]
}

/// How many answers of a conversation are not those that all before them make.
fn wrong(screens: &Screens, at: usize, name: &str) -> usize {
    let mut context = Context::default();
    let got = screens.answers.get(name).map(Vec::as_slice).unwrap_or_default();
    let expected = (0..THINGS.len()).map(|turn| answer(&mut context, thing(at, turn)));
    expected
        .enumerate()
        .filter(|(turn, expected)| got.get(*turn).map(|words| words.join(" ")).as_ref() != Some(expected))
        .count()
}

/// Draws some of the conversations, a column for each word of theirs as it came, and writes one of them down.
fn picture(screens: &Screens, names: &[String]) {
    let shown = &names[..names.len().min(AT_ONCE)];
    let course: Vec<_> = screens.course.iter().filter(|(name, _)| shown.contains(name)).take(100).collect();
    println!("the words of some of them as they came, each with the number of its answer:");
    for name in shown {
        let short = name.rsplit('-').next().unwrap_or_default();
        let row = course.iter().map(|(of, turn)| if of == name { turn.to_string() } else { "·".to_owned() });
        println!("  {short}  {}", row.collect::<String>());
    }
    println!("one of them:");
    for (turn, words) in screens.answers.get(&names[0]).into_iter().flatten().take(THINGS.len()).enumerate() {
        println!("  {:<9} {}", format!("{}?", thing(0, turn)), words.join(" "));
    }
}
