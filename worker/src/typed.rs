//! Functions with typed arguments as handlers.

use std::{fmt, marker::PhantomData};

use async_trait::async_trait;
use towpath_core::{Attempt, Failure, Handler, Outcome};

use crate::extract::FromAttempt;

/// A handler from a function whose arguments say what it needs of a message.
///
/// Each argument is an [extractor](crate::extract). What it cannot extract is a permanent failure:
/// a body that does not decode goes to the dead-letter queue with the decode error, at once.
///
/// ```
/// # async fn example(consumer: towpath_core::Consumer) -> towpath_core::Result<()> {
/// use towpath_worker::{Worker, extract::{AttemptNumber, Json}, typed};
///
/// #[derive(serde::Deserialize)]
/// struct Order { id: u64 }
///
/// async fn ship(Json(order): Json<Order>, AttemptNumber(n): AttemptNumber) -> Result<(), std::io::Error> {
///     println!("order {}, attempt {n:?}", order.id);
///     Ok(())
/// }
///
/// let worker = Worker::new(consumer, typed(ship))?;
/// # Ok(())
/// # }
/// ```
///
/// A function that is no handler is refused with the reason:
///
/// ```compile_fail
/// use towpath_worker::typed;
///
/// async fn ship(order: std::net::TcpStream) -> Result<(), std::io::Error> { Ok(()) }
/// let handler = typed(ship);
/// ```
pub fn typed<F, Args>(function: F) -> Typed<F, Args, ()>
where
    F: TypedFn<Args, Output: IntoOutcome, Future: Send>,
    Args: FromAttempt<()>,
{
    typed_with(function, ())
}

/// As [`typed`], for a function that takes [`State`](crate::extract::State).
///
/// ```
/// # async fn example(consumer: towpath_core::Consumer) -> towpath_core::Result<()> {
/// use std::sync::Arc;
/// use towpath_worker::{Worker, extract::{Json, State}, typed_with};
///
/// struct Crm;
///
/// async fn ship(State(crm): State<Arc<Crm>>, Json(order): Json<u64>) -> Result<(), std::io::Error> {
///     Ok(())
/// }
///
/// let worker = Worker::new(consumer, typed_with(ship, Arc::new(Crm)))?;
/// # Ok(())
/// # }
/// ```
pub fn typed_with<F, Args, S>(function: F, state: S) -> Typed<F, Args, S>
where
    F: TypedFn<Args, Output: IntoOutcome, Future: Send>,
    Args: FromAttempt<S>,
{
    Typed {
        function,
        state,
        args: PhantomData,
    }
}

/// A handler from a function. Made by [`typed`] and [`typed_with`].
pub struct Typed<F, Args, S> {
    function: F,
    state: S,
    args: PhantomData<fn(Args)>,
}

impl<F, Args, S> fmt::Debug for Typed<F, Args, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Typed({})", std::any::type_name::<F>())
    }
}

#[async_trait]
impl<F, Args, S> Handler for Typed<F, Args, S>
where
    F: TypedFn<Args, Output: IntoOutcome, Future: Send>,
    Args: FromAttempt<S> + 'static,
    S: Send + Sync + 'static,
{
    async fn handle(&self, attempt: Attempt) -> Outcome {
        let running = match Args::from_attempt(&attempt, &self.state) {
            Ok(args) => self.function.call(args),
            Err(failure) => return failure.into(),
        };
        running.await.into_outcome()
    }
}

/// An `async fn` of up to eight arguments. That they are [extractors](crate::extract), and that what
/// it returns is an [outcome](IntoOutcome), is checked apart, so that an error names what is wrong.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of messages",
    label = "not an `async fn` of up to 8 arguments",
    note = "a handler is an `async fn` with up to 8 extractors as arguments that returns `Result<(), E>`, `Outcome` or `()`"
)]
pub trait TypedFn<Args>: Send + Sync + 'static {
    /// What it returns in the end.
    type Output;
    /// Its future.
    type Future: Future<Output = Self::Output>;

    /// Calls the function.
    fn call(&self, args: Args) -> Self::Future;
}

/// What a typed handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says nothing about the outcome of a message",
    label = "not an outcome",
    note = "return `Result<(), E>`, where `E` is a `Failure` or any `std::error::Error + Send + Sync`; or `Outcome`, or `()` for a handler that cannot fail"
)]
pub trait IntoOutcome {
    /// The outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Ack
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<T: IntoOutcome, E: Into<Failure>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => error.into().into(),
        }
    }
}

macro_rules! typed_fn {
    ($($arg:ident),*) => {
        impl<F, Fut, $($arg,)*> TypedFn<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future,
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case)]
            fn call(&self, ($($arg,)*): ($($arg,)*)) -> Fut {
                self($($arg),*)
            }
        }

        /// All of them; the first that fails is the failure.
        impl<S, $($arg: FromAttempt<S>,)*> FromAttempt<S> for ($($arg,)*) {
            #[allow(unused_variables)]
            fn from_attempt(attempt: &Attempt, state: &S) -> Result<Self, Failure> {
                Ok(($($arg::from_attempt(attempt, state)?,)*))
            }
        }
    };
}

typed_fn!();
typed_fn!(A);
typed_fn!(A, B);
typed_fn!(A, B, C);
typed_fn!(A, B, C, D);
typed_fn!(A, B, C, D, E);
typed_fn!(A, B, C, D, E, G);
typed_fn!(A, B, C, D, E, G, H);
typed_fn!(A, B, C, D, E, G, H, I);
