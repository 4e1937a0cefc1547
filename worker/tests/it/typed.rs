use std::sync::Arc;

use tokio::sync::mpsc;
use towpath_core::{Attributes, Failure, FailureClass, Handler, Message, Outcome};
use towpath_worker::{
    Worker,
    extract::{AttemptNumber, FromRef, IdempotencyKey, Json, OrderingKey, QueueName, State},
    typed, typed_with,
};

use crate::support::{Setup, eventually, fixed, start};

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Order {
    id: u64,
}

#[derive(Clone)]
struct App {
    seen: mpsc::UnboundedSender<String>,
    name: Arc<str>,
}

struct Name(Arc<str>);

impl FromRef<App> for Name {
    fn from_ref(app: &App) -> Self {
        Self(app.name.clone())
    }
}

#[allow(clippy::too_many_arguments)]
async fn ship(
    State(app): State<App>,
    State(name): State<Name>,
    Json(order): Json<Order>,
    attributes: Attributes,
    IdempotencyKey(key): IdempotencyKey,
    AttemptNumber(number): AttemptNumber,
    QueueName(queue): QueueName,
    OrderingKey(ordering): OrderingKey,
) -> Result<(), Failure> {
    let tenant = attributes.get("tenant").unwrap_or("none");
    let line = format!(
        "{} {} {tenant} {key} {number:?} {queue} {ordering:?}",
        name.0, order.id
    );
    app.seen.send(line).map_err(|_| Failure::retry("gone"))
}

#[tokio::test(start_paused = true)]
async fn a_typed_handler_gets_what_it_asks_for() {
    let setup = Setup::new("memory://orders").await;
    let message = Message::new(r#"{"id": 17}"#)
        .with_attribute("tenant", "acme")
        .with_ordering_key("k");
    let key = message.idempotency_key();
    setup.producer.send(message).await.unwrap();
    let (seen, mut lines) = mpsc::unbounded_channel();
    let app = App {
        seen,
        name: "shop".into(),
    };
    let worker = Worker::builder(setup.consumer().await, typed_with(ship, app));
    let running = start(worker);
    let line = lines.recv().await.unwrap();
    assert_eq!(
        line,
        format!(r#"shop 17 acme {key} Some(1) orders Some("k")"#)
    );
    assert_eq!(running.stop().await.acked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_decode_is_parked_at_once_with_the_decode_error() {
    let setup = Setup::new("memory://orders?dead_letter=dead").await;
    for body in [r#"{"id": "x"}"#, "{", r#"{"id": 1} and more"#, "\u{0}"] {
        setup.producer.send(body).await.unwrap();
    }
    setup.producer.send(vec![0xffu8, 0xfe]).await.unwrap();
    let handler = typed(|Json(_): Json<Order>| async { Ok::<_, Failure>(()) });
    let builder = Worker::builder(setup.consumer().await, handler);
    let running = start(builder.retry(fixed(crate::support::SECOND)));
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.received, report.dead_lettered), (5, 5));
    let dead = setup.dead().await;
    for letter in &dead {
        let failure = letter.envelope().message.failure().unwrap();
        assert_eq!(failure.class, FailureClass::Undecodable);
        assert_eq!(failure.attempts, 1);
        assert!(
            failure.reason.contains("not the expected JSON"),
            "{}",
            failure.reason
        );
    }
    let first = &dead[0].envelope().message.failure().unwrap().reason;
    assert!(first.contains("at id: invalid type"), "{first}");
}

#[tokio::test]
async fn text_and_outcomes_work_without_a_worker() {
    async fn decide(text: String) -> Outcome {
        Outcome::Retry {
            after: None,
            reason: text,
        }
    }
    let handler = typed(decide);
    let attempt = |body: &'static [u8]| {
        let envelope = towpath_core::Envelope::new(1.into(), Message::new(body));
        towpath_core::Attempt::new(envelope, "orders")
    };
    let Outcome::Retry { reason, .. } = handler.handle(attempt(b"later")).await else {
        panic!("the outcome is passed on");
    };
    assert_eq!(reason, "later");
    let Outcome::DeadLetter { class, reason } = handler.handle(attempt(b"\xff")).await else {
        panic!("what is not text cannot be handled");
    };
    assert_eq!(class, FailureClass::Undecodable);
    assert!(reason.contains("not text"), "{reason}");
}
