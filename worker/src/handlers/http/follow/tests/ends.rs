//! The time-out, a cancel and a stop.

use super::*;

#[tokio::test]
async fn at_the_time_out_it_is_asked_a_last_time_and_the_callee_is_told() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("operation-location", "/op")], "")]);
    callee.on("/op", [reply(200, &[], json!({"status": "Running"}))]);
    let cancel = CancelCall { method: "PUT".into(), url: format!("{}/stop", callee.base), headers: BTreeMap::new() };
    let call = HttpCall { cancel: Some(cancel), ..callee.call(Follow::default()) };
    let story = lead_for(&call, Duration::ZERO).await;
    let failure = story.result.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("Timeout", true));
    assert_eq!((story.waits, story.said), (vec![0], vec!["cancel call: answered 404 Not Found".to_owned()]));
    assert_eq!(callee.seen(), ["POST /begin Bearer s3cret", "GET /op Bearer s3cret", "PUT /stop -"]);
    callee.on("/op", [reply(200, &[], json!({"status": "Succeeded"}))]);
    assert!(lead_for(&call, Duration::ZERO).await.result.is_ok(), "it has ended in time, and only now is it seen");
}

/// Cancels a run whose operation is under way.
async fn canceled(callee: &Callee, call: &HttpCall) -> (RunResult, Vec<String>) {
    callee.on("/begin", [reply(202, &[("operation-location", "/op")], "")]);
    let (run, mut told) = run_with(json!({"day": 7}));
    let (caller, variables) = (Caller::new(crate::policy::Policy::default()).unwrap(), variables());
    let Left::Parked { notes, .. } = caller.call(call, &run, &variables, None).await else { panic!() };
    callee.seen();
    run.handle.stop(Why::Asked);
    let Left::Ended(result) = caller.call(call, &run, &variables, Some(notes)).await else { panic!() };
    (result, lines(&mut told).into_iter().map(|line| line.text).collect())
}

#[tokio::test]
async fn a_cancel_tells_the_callee_and_finds_out_what_became_of_it() {
    let callee = Callee::start().await;
    let (running, gone) =
        (reply(200, &[], json!({"status": "Running"})), reply(200, &[], json!({"status": "Canceled"})));
    let done = reply(200, &[], json!({"status": "Succeeded"}));
    let stopped = || Err(RunFailure::stopped());
    let delete = callee.call(Follow { delete: true, ..Follow::default() });
    let cases = [
        (vec![running.clone(), reply(202, &[], ""), running.clone(), gone.clone()], 5, None, "it stops"),
        (vec![running.clone(), reply(409, &[], ""), done.clone()], 3, Some("Succeeded"), "it was too late"),
        (vec![done.clone()], 1, Some("Succeeded"), "it had ended before"),
        (vec![gone], 1, None, "it had been canceled before"),
        (vec![running.clone(), reply(204, &[], ""), reply(404, &[], "")], 3, None, "it is forgotten"),
    ];
    for (replies, most, expected, what) in cases {
        callee.on("/op", replies);
        let (result, said) = canceled(&callee, &delete).await;
        let seen = callee.seen();
        let state = result.as_ref().ok().map(|output| output["body"]["status"].as_str().unwrap());
        assert_eq!(state, expected, "{what}: {result:?}");
        assert!(seen.len() <= most, "{what}: {seen:?}");
        let told = seen.iter().filter(|call| *call == "DELETE /op Bearer s3cret").count();
        assert_eq!((told, said.len()), if most > 1 { (1, 1) } else { (0, 0) }, "{what}: {seen:?}");
    }
    // Without a way to tell it, it is asked once.
    callee.on("/op", [running.clone()]);
    assert_eq!(canceled(&callee, &callee.call(Follow::default())).await, (stopped(), vec![]));
    assert_eq!(callee.seen().len(), 1);
    // One that goes on is not waited for, and one that says nothing is told nevertheless.
    for silent in [running, None] {
        callee.on("/op", [silent]);
        let cancel =
            CancelCall { method: "POST".into(), url: format!("{}/stop", callee.base), headers: BTreeMap::new() };
        let call = HttpCall { cancel: Some(cancel), ..callee.call(Follow::default()) };
        let begun = std::time::Instant::now();
        let (result, said) = canceled(&callee, &call).await;
        assert_eq!((result, said.len()), (stopped(), 2), "{said:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(callee.seen().contains(&"POST /stop -".to_owned()));
    }
}

#[tokio::test]
async fn who_drips_has_said_nothing_and_a_stop_does_not_wait_for_it() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("location", "/op")], "")]).on("/op", [None]);
    let call = callee.call(Follow::default());
    let (run, _told) = run_with(Value::Null);
    let (caller, variables) = (Caller::new(crate::policy::Policy::default()).unwrap(), variables());
    let Left::Parked { notes, .. } = caller.call(&call, &run, &variables, None).await else { panic!() };
    let begun = std::time::Instant::now();
    let Left::Parked { notes, .. } = caller.call(&call, &run, &variables, Some(notes)).await else { panic!() };
    assert!((10..13).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(notes["failed"], 1);
    let begun = std::time::Instant::now();
    let (left, ()) = tokio::join!(caller.call(&call, &run, &variables, Some(notes)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        run.handle.stop(Why::Drained);
    });
    assert!(matches!(left, Left::Untouched), "the store parks it again: {left:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
