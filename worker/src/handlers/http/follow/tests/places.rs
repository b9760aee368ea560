//! What is sent where, and what is kept and told of it.

use super::*;

#[tokio::test]
async fn nothing_of_the_jobs_own_goes_to_another_origin() {
    let (callee, other) = (Callee::start().await, Callee::start().await);
    let at = format!("{}/op?sig=abc", other.base);
    callee.on("/begin", [reply(202, &[("operation-location", &at)], "")]);
    let home = format!("{}/result", callee.base);
    other.on("/op?sig=abc", [reply(200, &[], json!({"status": "Succeeded", "resourceLocation": home}))]);
    callee.on("/result", [reply(200, &[], "r")]);
    let call = callee.call(Follow::default());
    assert_eq!(result(&call).await, Ok(json!({"status": 200, "body": "r"})));
    assert_eq!(other.seen(), ["GET /op?sig=abc -"]);
    assert_eq!(callee.seen(), ["POST /begin Bearer s3cret", "GET /result Bearer s3cret"]);
    // 303 to another origin.
    callee.on("/begin", [reply(202, &[("location", "/op")], "")]);
    callee.on("/op", [reply(303, &[("location", &format!("{}/r", other.base))], "")]);
    other.on("/r", [reply(200, &[], "")]);
    assert!(result(&call).await.is_ok());
    assert_eq!(other.seen(), ["GET /r -"]);
}

#[tokio::test]
async fn what_is_noted_holds_no_secret_of_the_job() {
    let callee = Callee::start().await;
    let url = callee.base.replace("http://", "http://me:${env:TOKEN}@") + "/${env:DIR}/begin?key=${env:TOKEN}";
    callee.on("/hidden/begin?key=s3cret", [reply(202, &[("location", "op/1"), ("operation-location", "?op=1")], "")]);
    callee.on("/hidden/begin?op=1", [reply(202, &[], ""), reply(200, &[], json!({"status": "Succeeded"}))]);
    callee.on("/hidden/op/1", [reply(200, &[], "r")]);
    let call = HttpCall { headers: BTreeMap::new(), url, ..callee.call(Follow::default()) };
    let story = lead(&call).await;
    assert_eq!(story.result, Ok(json!({"status": 200, "body": "r"})));
    let kept = Value::from(story.notes).to_string();
    assert!(!kept.contains("s3cret") && !kept.contains("hidden") && kept.contains("op/1"), "{kept}");
    let basic = "Basic bWU6czNjcmV0";
    let expected = [
        format!("POST /hidden/begin?key=s3cret {basic}"),
        format!("GET /hidden/begin?op=1 {basic}"),
        format!("GET /hidden/begin?op=1 {basic}"),
        format!("GET /hidden/op/1 {basic}"),
    ];
    assert_eq!(callee.seen(), expected);
}

#[tokio::test]
async fn places_that_can_not_be_asked_are_told_without_their_url() {
    let callee = Callee::start().await;
    for (place, told) in [
        ("ftp://h/hunter2", "url is neither http nor https"),
        ("http://[hunter2/", "a place that is no URL"),
        ("file:///hunter2", "url is neither http nor https"),
        (&*format!("/hunter2{}", "x".repeat(9000)), "more than 8 KiB"),
    ] {
        callee.on("/begin", [reply(202, &[("location", place)], "")]);
        let (_, retryable, message) = fails(&callee.call(Follow::default())).await;
        assert!(!retryable && message.contains(told) && !message.contains("hunter2"), "{message}");
    }
    let (run, _notes) = run_with(Value::Null);
    let secure = HttpCall::new("POST", "https://host/begin");
    let place = Place::of(&secure, &run, &variables()).unwrap();
    let failure = place.resolve(&place.url, "http://host/op?sig=hunter2").unwrap_err();
    assert!(failure.message.contains("by http") && !failure.message.contains("hunter2"), "{failure:?}");
    // An error while asking tells no URL either.
    callee.on("/begin", [reply(202, &[("location", "http://127.0.0.1:1/op?sig=hunter2")], "")]);
    let story = lead_for(&callee.call(Follow::default()), Duration::ZERO).await;
    let failure = story.result.unwrap_err();
    assert_eq!(failure.code, "Timeout");
    let told = format!("{} {:?}", failure.message, story.said);
    assert!(told.contains("no answer: ") && !told.contains("hunter2"), "{told}");
}
