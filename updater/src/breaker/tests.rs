use super::*;
use futures::FutureExt;

fn breaker() -> Breaker {
    Breaker::new(
        BreakerConfig::default()
            .consecutive_failures(3)
            .cool_down(Duration::from_secs(10))
            .max_cool_down(Duration::from_secs(30)),
    )
}

fn fail(breaker: &Breaker, times: u32) {
    for _ in 0..times {
        breaker.try_enter().unwrap().failure();
    }
}

#[tokio::test(start_paused = true)]
async fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
    let breaker = breaker();
    fail(&breaker, 2);
    breaker.try_enter().unwrap().success();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.try_enter().is_none());
    assert_eq!(breaker.cool_down_left(), Duration::from_secs(10));

    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let pass = breaker.try_enter().unwrap();
    assert!(pass.is_try());
    assert!(breaker.try_enter().is_none(), "one call decides");
    pass.success();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_cool_down_doubles_with_failed_tries_up_to_its_limit() {
    let breaker = breaker();
    fail(&breaker, 3);
    for seconds in [10, 20, 30, 30] {
        let left = breaker.cool_down_left();
        assert_eq!(left, Duration::from_secs(seconds));
        tokio::time::advance(left).await;
        breaker.try_enter().unwrap().failure();
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    breaker.try_enter().unwrap().success();
    fail(&breaker, 3);
    assert_eq!(breaker.cool_down_left(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_too_large_a_part_fails() {
    let config = BreakerConfig::default().failure_ratio(0.5).window(4);
    let breaker = Breaker::new(config);
    for is_failure in [true, false, true] {
        let pass = breaker.try_enter().unwrap();
        if is_failure {
            pass.failure();
        } else {
            pass.success();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
    // Two of four failed, and counted is when a call fails.
    breaker.try_enter().unwrap().success();
    assert_eq!(breaker.state(), BreakerState::Closed);
    breaker.try_enter().unwrap().failure();
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_of_an_earlier_time_do_not_count() {
    let breaker = breaker();
    let (early, late) = (breaker.try_enter().unwrap(), breaker.try_enter().unwrap());
    fail(&breaker, 3);
    early.success();
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::advance(Duration::from_secs(10)).await;
    breaker.try_enter().unwrap().success();
    fail(&breaker, 2);
    late.failure();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_leaves_the_try_to_the_next() {
    let breaker = breaker();
    fail(&breaker, 3);
    tokio::time::advance(Duration::from_secs(10)).await;
    drop(breaker.try_enter().unwrap());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.try_enter().unwrap().is_try());
}

#[tokio::test(start_paused = true)]
async fn being_asked_to_wait_opens_at_once_and_for_that_time() {
    let breaker = breaker();
    breaker
        .try_enter()
        .unwrap()
        .failure_for(Duration::from_secs(90));
    assert_eq!(breaker.cool_down_left(), Duration::from_secs(90));
}

#[tokio::test(start_paused = true)]
async fn the_feeder_is_told_to_stop_and_to_go_on() {
    let breaker = breaker();
    assert!(breaker.opened().now_or_never().is_none());
    breaker.closed().await;
    fail(&breaker, 3);
    breaker.opened().await;
    assert!(breaker.is_open());
    let start = Instant::now();
    breaker.closed().await;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    // Nobody waits, so a call has to come; with it, no more should.
    let pass = breaker.try_enter().unwrap();
    breaker.opened().await;
    assert!(breaker.closed().now_or_never().is_none());
    pass.success();
    breaker.closed().await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_tried_before_new_calls_come() {
    let breaker = breaker();
    fail(&breaker, 3);
    let waiter = tokio::spawn({
        let breaker = breaker.clone();
        async move {
            let pass = breaker.enter().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            pass.success();
        }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    breaker.closed().await;
    assert_eq!(start.elapsed(), Duration::from_secs(15));
    waiter.await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_take_turns() {
    let breaker = breaker();
    fail(&breaker, 3);
    let tried = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for name in 0..3 {
        let (breaker, tried) = (breaker.clone(), tried.clone());
        tasks.spawn(async move {
            loop {
                let pass = breaker.enter().await;
                tried.lock().unwrap().push(name);
                match name {
                    2 => break pass.success(),
                    _ if pass.is_try() => pass.failure(),
                    _ => break pass.success(),
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(tried.lock().unwrap()[..3], [0, 1, 2]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let base = BreakerConfig::default;
    for (config, name) in [
        (base().consecutive_failures(0), "consecutive_failures"),
        (base().failure_ratio(0.0), "failure_ratio"),
        (base().failure_ratio(f64::NAN), "failure_ratio"),
        (base().window(0), "window"),
        (base().cool_down(Duration::ZERO), "cool_down"),
        (
            base().max_cool_down(Duration::from_secs(1)),
            "max_cool_down",
        ),
    ] {
        assert!(config.check().unwrap_err().contains(name));
    }
    assert!(base().check().is_ok());
}
