//! What handles a message: an `async fn`, a closure, a struct, or either with state.

use std::future::Future;

use super::failure::Failure;
use super::received::Received;

/// Handles messages of one payload type, one at a time within a session.
///
/// Accepted are an `async fn(Received<T>) -> Result<(), Failure>`, a closure `|m: Received<T>| async move { … }`, any type with an implementation of
/// this trait, and [`with_state`].
///
/// ```
/// use convoy_core::{Failure, Handler, Received};
///
/// struct Audit;
///
/// impl Handler<String> for Audit {
///     async fn handle(&self, message: Received<String>) -> Result<(), Failure> {
///         println!("{}: {}", message.session(), message.body);
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages of `{T}`",
    label = "not a handler",
    note = "a handler takes one argument, `Received<T>`, and returns `Result<(), Failure>`: `async fn bill(order: Received<Json<Order>>) -> Result<(), Failure>`",
    note = "a closure names its argument's type: `|order: Received<Json<Order>>| async move {{ … }}`",
    note = "give it something to work with by `with_state(db, async |db, order: Received<Json<Order>>| {{ … }})`",
    note = "its future must be `Send`: hold no `Rc`, `RefCell` borrow or lock guard over an `.await`; `fn is_send(_: impl Send) {{}}` called with the future shows which"
)]
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles one message. An error is tried again in place, unless it says otherwise; a panic is a failed attempt.
    ///
    /// # Cancel safety
    /// The future is dropped when the right to the session is gone and the grace time is over, or when the handler timeout is.
    fn handle(&self, message: Received<T>) -> impl Future<Output = Result<(), Failure>> + Send;
}

// So that the notes above are shown, rather than which bound of this does not hold.
#[diagnostic::do_not_recommend]
impl<T, F, Fut> Handler<T> for F
where
    F: Fn(Received<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    fn handle(&self, message: Received<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        self(message)
    }
}

/// A handler with something to work with, cloned for each message: a pool, an `Arc`, a sender.
///
/// An async closure that captures has no `Send` future that stable Rust could name; one that is *given* its state has.
///
/// ```
/// use std::sync::Arc;
/// use convoy_core::{Handler, Received, with_state};
///
/// # struct Db; impl Db { async fn store(&self, _: &str) -> std::io::Result<()> { Ok(()) } }
/// # fn takes(_: impl Handler<String>) {}
/// let db = Arc::new(Db);
/// takes(with_state(db, async |db: Arc<Db>, order: Received<String>| {
///     db.store(&order.body).await?;
///     Ok(())
/// }));
/// ```
pub fn with_state<S, T, F, Fut>(state: S, handler: F) -> WithState<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Received<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    WithState { state, handler }
}

/// A handler with state; see [`with_state`].
#[derive(Clone, Debug)]
pub struct WithState<S, F> {
    state: S,
    handler: F,
}

impl<S, T, F, Fut> Handler<T> for WithState<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Received<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    fn handle(&self, message: Received<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        (self.handler)(self.state.clone(), message)
    }
}
