//! When it is asked, and callees that have no good answer.

use super::*;

#[tokio::test]
async fn waits_keep_within_their_bounds() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("location", "/op"), ("retry-after", "0")], "")]);
    let wait = |text: &str| reply(202, &[("retry-after", text)], "");
    let plain = || reply(202, &[], "");
    let done = reply(200, &[], "");
    callee.on("/op", [wait("0"), wait("9"), wait("soon"), plain(), plain(), plain(), plain(), done.clone()]);
    let (least, most) = (HumanDuration::from_secs(2), HumanDuration::from_secs(8));
    let story = lead(&callee.call(Follow { least, most, ..Follow::default() })).await;
    assert_eq!(story.waits, [2000, 2000, 8000, 4500, 6750, 8000, 8000, 8000]);
    // By a date; and no later than the end of the attempt's time.
    callee.on("/op", [wait("Fri, 02 Jan 2099 03:04:05 GMT"), done.clone()]);
    let call = callee.call(Follow { most: HumanDuration::from_secs(3600), ..Follow::default() });
    assert_eq!(lead(&call).await.waits, [1000, 3_600_000]);
    callee.on("/op", [wait("3000"), done]);
    let story = lead_for(&call, Duration::from_secs(60)).await;
    assert!(story.waits[1] > 55_000 && story.waits[1] <= 60_000, "{:?}", story.waits);
}

#[tokio::test]
async fn a_callee_in_trouble_is_asked_again_and_one_that_refuses_is_not_asked_for_ever() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("operation-location", "/op")], "")]);
    let running = || reply(200, &[], json!({"status": "Running"}));
    let trouble = || reply(503, &[], "");
    let mut replies = vec![running()];
    replies.extend((0..8).map(|_| trouble()));
    replies.extend([
        reply(429, &[("retry-after", "33")], ""),
        running(),
        trouble(),
        reply(200, &[], json!({"status": "Succeeded"})),
    ]);
    callee.on("/op", replies);
    let story = lead(&callee.call(Follow::default())).await;
    assert!(story.result.is_ok(), "{:?}", story.result);
    assert_eq!(story.waits[2..11], [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 33000]);
    assert_eq!(story.said.len(), 2, "told once for each time of trouble: {:?}", story.said);

    callee.on("/circle", [reply(303, &[("location", "/circle")], "")]);
    for (reply, code, told) in [
        (reply(401, &[], ""), "OperationRefused", "answered 401"),
        (reply(403, &[], "no"), "OperationRefused", "answered 403 Forbidden: no"),
        (reply(302, &[("location", "/op")], ""), "OperationRefused", "answered 302"),
        (reply(200, &[], "<html>log in</html>"), "OperationUnclear", "<html>log in</html>: no document"),
        (reply(200, &[], json!([1])), "OperationUnclear", "no document"),
        (reply(303, &[("location", "/circle")], ""), "OperationRefused", "the place of the result: answered 303"),
    ] {
        callee.on("/op", [running(), reply.clone(), running(), reply.clone()]);
        let story = lead(&callee.call(Follow::default())).await;
        let failure = story.result.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (code, false), "{failure:?}");
        assert!(failure.message.contains(told), "{failure:?}");
        assert_eq!(story.waits.len(), 4 + 4, "a few in a row: {reply:?}");
    }
}

#[tokio::test]
async fn what_is_forgotten_once_it_was_known_is_gone() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("operation-location", "/op")], "")]);
    let (running, done) =
        (reply(200, &[], json!({"status": "Running"})), reply(200, &[], json!({"status": "Succeeded"})));
    for status in [404, 410] {
        callee.on("/op", [running.clone(), reply(status, &[], "")]);
        let story = lead(&callee.call(Follow::default())).await;
        let failure = story.result.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable, story.waits.len()), ("OperationGone", false, 2));
    }
    callee.on("/op", [reply(404, &[], ""), reply(404, &[], ""), running, done]);
    assert!(result(&callee.call(Follow::default())).await.is_ok(), "some know it only after a while");
    callee.on("/op", [reply(404, &[], "")]);
    assert_eq!(fails(&callee.call(Follow::default())).await.0, "OperationRefused");
}
