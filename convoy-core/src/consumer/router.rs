//! A handler for each type of message, and a word on types that nobody here knows.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use futures_util::future::BoxFuture;
use hashbrown::HashMap;

use super::failure::Failure;
use super::handler::Handler;
use super::payload::Payload;
use super::received::Received;
use crate::engine::Then;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Content, MessageType};
use crate::sync::{AtomicU64, Ordering};

/// What becomes of a message whose type has no handler here, or that has no type.
///
/// There is no default: each of them is right somewhere, and two of them give a message up.
// No open list: whoever matches on it has to say what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// It stays the head of its session, which waits for a consumer that knows the type. The waits are those of the retry policy; its limits do not
    /// count, since no attempt of this program can succeed. Nothing is lost and nothing overtakes it: for a convoy that gains types while it runs.
    Retry,
    /// It goes to the dead-letter store at once, with the code `unknown-type`, and its session goes on behind it.
    DeadLetter,
    /// It counts as handled, and [`Router::skipped`] counts it: for a consumer that wants some types of a channel and no others. A type that it should
    /// have known is gone as well.
    Skip,
}

/// A handler that calls another one for each type of message, each with a payload of its own.
///
/// The type is the name that the sender gave the message: [`Message::typed`](crate::Message::typed), or
/// [`with_type`](crate::Message::with_type). A session's messages are handled one at a time and in order, whatever their types. A body that its type cannot be
/// read from fails as any body does that cannot be read. A clone is the same router.
///
/// ```
/// use convoy_core::{Failure, Json, MessageType, Received, Router, Unknown};
///
/// #[derive(serde::Deserialize)]
/// struct Placed { item: String }
/// #[derive(serde::Deserialize)]
/// struct Paid { cents: u64 }
///
/// impl MessageType for Placed {
///     const NAME: &str = "order.placed";
/// }
/// impl MessageType for Paid {
///     const NAME: &str = "order.paid";
/// }
///
/// async fn placed(order: Received<Json<Placed>>) -> Result<(), Failure> {
///     println!("{}: {}", order.session(), order.body.item);
///     Ok(())
/// }
/// async fn paid(order: Received<Json<Paid>>) -> Result<(), Failure> {
///     println!("{}: {} cents", order.session(), order.body.cents);
///     Ok(())
/// }
///
/// let router = Router::builder(Unknown::Retry)
///     .on(placed)
///     .on(paid)
///     .on_type("order.note", |note: Received<String>| async move {
///         println!("{}", note.body);
///         Ok(())
///     })
///     .build()?;
/// // broker.consumer("orders").processor().run_until(shutdown, router)
/// # fn handles(_: impl convoy_core::Handler<std::sync::Arc<convoy_core::Content>>) {}
/// # handles(router);
/// # Ok::<(), convoy_core::Error>(())
/// ```
///
/// To add a type to a convoy that runs, let its consumers say [`Unknown::Retry`], start sending it, and replace the consumers: a session that meets it waits, and goes
/// on in the first consumer that knows it. `examples/new_type.rs` of the repository does so. To change a type, add the new version under a name of
/// its own, and read the old ones as the new one while there are any: [`Versions`].
#[derive(Clone)]
pub struct Router(Arc<Table>);

/// A router in the making; made by [`Router::builder`].
#[must_use = "a builder does nothing until `.build()`"]
pub struct RouterBuilder {
    table: Table,
    /// The first thing that is wrong.
    wrong: Option<String>,
}

/// The versions of a type that one handler takes, each under a name of its own and all read as its payload.
///
/// ```
/// use convoy_core::{Failure, Json, MessageType, Received, Router, Unknown, Versions};
///
/// /// As it was first sent. Some of them are still in the convoy.
/// #[derive(serde::Deserialize)]
/// struct PlacedV1 { item: String }
/// #[derive(serde::Deserialize)]
/// struct Placed { item: String, count: u32 }
///
/// impl MessageType for PlacedV1 {
///     const NAME: &str = "order.placed";
/// }
/// impl MessageType for Placed {
///     const NAME: &str = "order.placed.2";
/// }
///
/// async fn placed(order: Received<Json<Placed>>) -> Result<(), Failure> {
///     println!("{} of {}", order.body.count, order.body.item);
///     Ok(())
/// }
///
/// let versions = Versions::new().and(|old: Json<PlacedV1>| Json(Placed { item: old.0.item, count: 1 }));
/// let router = Router::builder(Unknown::Retry).on_versions(versions, placed).build()?;
/// assert_eq!(router.types().collect::<Vec<_>>(), ["order.placed", "order.placed.2"]);
/// # Ok::<(), convoy_core::Error>(())
/// ```
///
/// What needs more than a conversion, such as a look into a database, is a type with a handler of its own.
#[must_use = "they are handed to `RouterBuilder::on_versions`"]
pub struct Versions<T>(Vec<(Name, Read<T>)>);

type Name = Cow<'static, str>;

/// How the payload is got out of a message.
type Read<T> = Arc<dyn Fn(&Arc<Content>) -> Result<T> + Send + Sync>;

struct Table {
    routes: HashMap<Name, Box<dyn Route>, RandomState>,
    unknown: Unknown,
    skipped: AtomicU64,
}

/// One type's way to its handler.
trait Route: Send + Sync {
    fn run(&self, message: Received<Arc<Content>>) -> BoxFuture<'_, Result<(), Failure>>;
}

struct To<T, H> {
    read: Read<T>,
    handler: Arc<H>,
}

impl<T: Payload, H: Handler<T>> Route for To<T, H> {
    fn run(&self, message: Received<Arc<Content>>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { self.handler.handle(message.decode_by(|content| (self.read)(content))?).await })
    }
}

impl Router {
    /// A router that does this with messages whose type has no handler, and with those that have no type.
    pub fn builder(unknown: Unknown) -> RouterBuilder {
        let table = Table { routes: HashMap::default(), unknown, skipped: AtomicU64::new(0) };
        RouterBuilder { table, wrong: None }
    }

    /// The types that have a handler, in the order of their names.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.0.types().into_iter()
    }

    /// What becomes of other types.
    #[must_use]
    pub fn unknown(&self) -> Unknown {
        self.0.unknown
    }

    /// How many messages were taken for handled because of [`Unknown::Skip`].
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }
}

impl Handler<Arc<Content>> for Router {
    async fn handle(&self, message: Received<Arc<Content>>) -> Result<(), Failure> {
        match message.type_name().and_then(|name| self.0.routes.get(name)) {
            Some(route) => route.run(message).await,
            None => self.0.unknown(&message),
        }
    }
}

impl RouterBuilder {
    /// Handles the type that this payload names.
    pub fn on<T: Payload + MessageType>(self, handler: impl Handler<T>) -> Self {
        self.on_versions(Versions::new(), handler)
    }

    /// Handles the type of this name.
    pub fn on_type<T: Payload>(self, name: impl Into<Cow<'static, str>>, handler: impl Handler<T>) -> Self {
        self.on_versions(Versions::named(name), handler)
    }

    /// Handles several versions of a type, all read as one payload.
    pub fn on_versions<T: Payload, H: Handler<T>>(mut self, versions: Versions<T>, handler: H) -> Self {
        let handler = Arc::new(handler);
        for (name, read) in versions.0 {
            if name.is_empty() {
                self.wrong.get_or_insert(
                    "a type has an empty name, which a message without a type cannot be told from".into(),
                );
            }
            let route: Box<dyn Route> = Box::new(To { read, handler: Arc::clone(&handler) });
            if self.table.routes.contains_key(&name) {
                self.wrong.get_or_insert(format!("type `{name}` has two handlers; give each type one"));
            }
            self.table.routes.insert(name, route);
        }
        self
    }

    /// The router.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOption`] when a type has two handlers or an empty name, or when there is no handler at all.
    pub fn build(mut self) -> Result<Router> {
        if self.table.routes.is_empty() {
            self.wrong.get_or_insert("the router has no handler; add one by `on`".into());
        }
        match self.wrong {
            Some(wrong) => Err(Error::new(ErrorKind::InvalidOption, "router").because(wrong)),
            None => Ok(Router(Arc::new(self.table))),
        }
    }
}

impl<T: Payload + MessageType> Versions<T> {
    /// The version that the payload itself names.
    #[allow(clippy::new_without_default, reason = "it is no empty set of versions")]
    pub fn new() -> Self {
        Self::named(T::NAME)
    }
}

impl<T: Payload> Versions<T> {
    /// The version of this name, whose body is the payload's.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self(vec![(name.into(), Arc::new(T::decode))])
    }

    /// Also the type that `V` names: its body is read as `V` and made into the payload.
    pub fn and<V: Payload + MessageType>(self, convert: impl Fn(V) -> T + Send + Sync + 'static) -> Self {
        self.and_named(V::NAME, convert)
    }

    /// Also the type of this name: its body is read as `V` and made into the payload.
    pub fn and_named<V: Payload>(
        mut self,
        name: impl Into<Cow<'static, str>>,
        convert: impl Fn(V) -> T + Send + Sync + 'static,
    ) -> Self {
        self.0.push((name.into(), Arc::new(move |content| V::decode(content).map(&convert))));
        self
    }
}

impl Table {
    fn types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = self.routes.keys().map(AsRef::as_ref).collect();
        types.sort_unstable();
        types
    }

    #[cold]
    fn unknown(&self, message: &Received<Arc<Content>>) -> Result<(), Failure> {
        let then = match self.unknown {
            Unknown::Retry => Then::Wait,
            Unknown::DeadLetter => Then::DeadLetterAs("unknown-type"),
            Unknown::Skip => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                let (session, kind) = (message.session(), shown(message.type_name()));
                tracing::debug!(%session, position = %message.position(), kind, "no handler for this type; skipped");
                return Ok(());
            }
        };
        let known = self.types().join(", ");
        let detail = format!(
            "there is no handler here for a message {}; there are some for {known}",
            shown(message.type_name())
        );
        Err(Failure { then, detail })
    }
}

/// A type's name in a sentence. It comes from the sender, who may have put anything into it.
fn shown(name: Option<&str>) -> String {
    const MOST: usize = 128;
    match name {
        None | Some("") => "without a type".to_owned(),
        Some(name) => format!("of type `{}`", name.escape_debug().take(MOST).collect::<String>()),
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("Router", f)
    }
}

impl fmt::Debug for RouterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt_as("RouterBuilder", f)
    }
}

impl Table {
    fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("types", &self.types()).field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Versions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
