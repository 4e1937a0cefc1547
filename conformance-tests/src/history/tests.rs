use super::*;

fn envelope(message: &Message) -> Envelope {
    Envelope::new(1.into(), message.clone())
}

/// A history of one accepted message, and what then happens to it.
fn after(events: impl FnOnce(&History, &Message)) -> Ledger {
    let history = History::new();
    let message = Message::new("x").with_attribute("a", "1");
    history.accepted(&message);
    events(&history, &message);
    history.check()
}

fn handle(history: &History, message: &Message, holder: &str) {
    history.received(&envelope(message), holder);
    history.acked(&envelope(message), holder);
}

#[test]
fn each_of_the_places_is_a_good_end() {
    assert!(after(|h, m| handle(h, m, "w")).is_clean());
    assert!(after(|h, m| h.dead_lettered(m)).is_clean());
    assert!(after(History::left).is_clean());
    let retried = after(|h, m| {
        h.received(&envelope(m), "w");
        h.released(&envelope(m), "w");
        handle(h, m, "v");
    });
    assert!(retried.is_clean(), "{retried}");
}

#[test]
fn what_is_nowhere_is_lost() {
    let ledger = after(|h, m| h.received(&envelope(m), "w"));
    assert_eq!(ledger.lost.len(), 1, "{ledger}");
    assert!(!ledger.is_safe());
}

#[test]
fn what_is_done_and_still_there_is_in_two_places() {
    for ledger in [
        after(|h, m| {
            handle(h, m, "w");
            h.left(m);
        }),
        after(|h, m| {
            h.dead_lettered(m);
            h.dead_lettered(m);
        }),
    ] {
        assert_eq!(ledger.in_two_places.len(), 1, "{ledger}");
        assert!(ledger.is_safe() && !ledger.is_clean());
    }
}

#[test]
fn what_nobody_sent_is_unexpected() {
    let ledger = after(|h, m| {
        handle(h, m, "w");
        h.left(&Message::new("x"));
    });
    assert_eq!(ledger.unexpected.len(), 1, "{ledger}");
}

#[test]
fn a_send_without_an_answer_may_appear_or_not() {
    let history = History::new();
    let (there, gone) = (Message::new("there"), Message::new("gone"));
    history.unknown(&there);
    history.unknown(&gone);
    handle(&history, &there, "w");
    let ledger = history.check();
    assert!(ledger.is_clean(), "{ledger}");
    assert_eq!((ledger.unknown, ledger.done), (2, 1));
}

#[test]
fn another_body_or_attribute_is_a_change() {
    let changes: [fn(&Message) -> Message; 3] = [
        |m| m.clone().with_body("y"),
        |m| m.clone().with_attribute("a", "2"),
        |m| m.clone().with_attribute("b", "1"),
    ];
    for change in changes {
        let ledger = after(|h, m| handle(h, &change(m), "w"));
        assert_eq!(ledger.changed.len(), 1, "{ledger}");
    }
}

#[test]
fn two_holders_at_once_overlap() {
    let ledger = after(|h, m| {
        h.received(&envelope(m), "w");
        handle(h, m, "v");
    });
    assert_eq!(ledger.overlapping.len(), 1, "{ledger}");
}

#[test]
fn the_trace_tells_what_was_noted_of_the_messages_asked_for() {
    let history = History::new();
    let (asked, other) = (Message::new("x"), Message::new("y"));
    for message in [&asked, &other] {
        history.accepted(message);
        handle(&history, message, "w");
    }
    let key = asked.idempotency_key();
    let trace = history.trace(&BTreeSet::from([key]));
    let lines: Vec<_> = trace.lines().collect();
    let said = ["accepted", "received by w as 1", "acked by w as 1"];
    assert_eq!(lines.len(), said.len(), "{trace}");
    for (line, said) in lines.iter().zip(said) {
        assert!(line.ends_with(&format!(" s {key} {said}")), "{trace}");
    }
}

#[test]
fn two_copies_of_a_send_without_an_answer_have_a_holder_each() {
    let ledger = after(|h, m| {
        let second = Envelope::new(2.into(), m.clone());
        h.received(&envelope(m), "w");
        h.received(&second, "v");
        h.acked(&envelope(m), "w");
        h.acked(&second, "v");
    });
    assert!(ledger.is_clean(), "{ledger}");
}

#[test]
fn an_ack_after_the_lease_was_lost_is_a_false_one() {
    let ledger = after(|h, m| {
        h.received(&envelope(m), "w");
        h.released(&envelope(m), "w");
        h.received(&envelope(m), "v");
        h.acked(&envelope(m), "w");
        h.acked(&envelope(m), "v");
    });
    assert_eq!(ledger.false_acks.len(), 1, "{ledger}");
}

#[test]
fn effects_of_a_key_are_in_the_order_of_sending() {
    let run = |order: [usize; 4]| {
        let history = History::new();
        let messages: Vec<_> = ["a", "a", "a", "b"]
            .iter()
            .map(|key| Message::new("x").with_ordering_key(*key))
            .collect();
        messages
            .iter()
            .for_each(|message| history.accepted(message));
        for i in order {
            handle(&history, &messages[i], "w");
        }
        history.check().out_of_order.len()
    };
    assert_eq!(run([0, 1, 2, 3]), 0);
    assert_eq!(run([3, 0, 1, 2]), 0, "keys are independent");
    assert_eq!(run([0, 2, 1, 3]), 1);
    assert_eq!(run([1, 0, 3, 2]), 1);
}
