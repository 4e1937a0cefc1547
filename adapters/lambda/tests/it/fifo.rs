//! FIFO queues: groups in order, and nothing past a failure.

use serde_json::json;
use towpath_lambda::SqsFunction;

use crate::invocation::{Scripted, event, failures, grouped, invoke, record};

#[tokio::test]
async fn after_a_failure_the_rest_of_its_group_is_returned_unhandled() {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    let event = event([
        grouped("a1", "a", "a1"),
        grouped("b1", "b", "retry"),
        grouped("a2", "a", "a2"),
        grouped("b2", "b", "b2"),
        grouped("c1", "c", "c1"),
        grouped("b3", "b", "b3"),
    ]);
    let response = invoke(&function, event).await.unwrap();
    assert_eq!(response, failures(&["b1", "b2", "b3"]));
    let mut bodies = handler.bodies();
    bodies.sort();
    assert_eq!(bodies, ["a1", "a2", "c1", "retry"]);
}

#[tokio::test]
async fn the_messages_of_a_group_are_handled_in_order() {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    let records: Vec<_> = (0..10)
        .map(|i| grouped(&i.to_string(), "g", &i.to_string()))
        .collect();
    assert_eq!(
        invoke(&function, event(records)).await.unwrap(),
        failures(&[])
    );
    let expected: Vec<String> = (0..10).map(|i: u32| i.to_string()).collect();
    assert_eq!(handler.bodies(), expected);
}

#[tokio::test]
async fn a_broken_record_stops_its_group_and_one_without_a_group_stops_all_that_follow() {
    let function = SqsFunction::new(Scripted::default());
    let mut broken = grouped("a1", "a", "x");
    broken["body"] = json!(7);
    let records = [broken, grouped("b1", "b", "x"), grouped("a2", "a", "x")];
    let response = invoke(&function, event(records)).await.unwrap();
    assert_eq!(response, failures(&["a1", "a2"]));

    let mut lost = grouped("?", "a", "x");
    lost["attributes"] = json!({});
    let records = [grouped("a1", "a", "x"), lost, grouped("b1", "b", "x")];
    let response = invoke(&function, event(records)).await.unwrap();
    assert_eq!(response, failures(&["?", "b1"]));
}

#[tokio::test]
async fn groups_of_a_standard_queue_do_not_order() {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    let mut records = [record("a", "retry"), record("b", "x")];
    for record in &mut records {
        record["attributes"]["MessageGroupId"] = json!("tenant");
    }
    assert_eq!(
        invoke(&function, event(records)).await.unwrap(),
        failures(&["a"])
    );
    assert_eq!(
        handler.attempts()[1].envelope().message.ordering_key(),
        None
    );
}
