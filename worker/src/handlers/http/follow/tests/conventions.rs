//! Callees that keep to a convention, and those of which the job tells.

use super::*;

#[tokio::test]
async fn a_monitor_is_asked_until_it_names_an_end() {
    let callee = Callee::start().await;
    for header in ["operation-location", "azure-asyncoperation"] {
        let at = format!("{}/op", callee.base);
        callee.on("/begin", [reply(202, &[(header, &at), ("retry-after", "7")], json!({"status": "Accepted"}))]);
        callee.on(
            "/op",
            [
                reply(200, &[], json!({"status": "NotStarted", "percentComplete": 0})),
                reply(200, &[("retry-after", "3")], json!({"status": "Running", "percentComplete": 40})),
                reply(200, &[], json!({"status": "brewing", "percentComplete": 80.5})),
                reply(200, &[], json!({"status": "sUCCEEDED", "rows": 9})),
            ],
        );
        let story = lead(&callee.call(Follow::default())).await;
        let output = json!({"status": 200, "body": {"status": "sUCCEEDED", "rows": 9}});
        assert_eq!(story.result, Ok(output));
        assert_eq!(story.waits, [7000, 1000, 3000, 2250], "what the callee asks for, else growing by half");
        let progress = [(0.0, "NotStarted"), (40.0, "Running"), (80.5, "brewing")];
        let progress = progress.map(|(percent, word)| (percent, Some(word.to_owned())));
        assert_eq!(story.progress, progress);
        let get = "GET /op Bearer s3cret";
        assert_eq!(callee.seen(), ["POST /begin Bearer s3cret", get, get, get, get]);
    }
}

#[tokio::test]
async fn a_monitor_that_succeeds_names_the_place_of_the_result() {
    let callee = Callee::start().await;
    let begun = |more: &[(&'static str, &str)]| {
        let headers = [&[("operation-location", "/op")], more].concat();
        callee.on("/begin", [reply(201, &headers, "")]);
    };
    callee.on("/result", [reply(202, &[], ""), reply(200, &[], json!({"rows": 9}))]);
    callee.on("/op", [reply(200, &[], json!({"status": "Succeeded"}))]);
    begun(&[("location", "/result")]);
    let output = Ok(json!({"status": 200, "body": {"rows": 9}}));
    assert_eq!(result(&callee.call(Follow::default())).await, output, "the Location, once it is there");
    begun(&[("location", "/elsewhere")]);
    callee.on("/op", [reply(200, &[], json!({"status": "Succeeded", "resourceLocation": "result"}))]);
    assert_eq!(result(&callee.call(Follow::default())).await, output, "the document's word goes first");
    // It took effect: a place that is not there makes no failure of it.
    for (status, leases) in [(404, 1), (403, 1), (500, 6)] {
        callee.on("/result", [reply(status, &[], "")]);
        let story = lead(&callee.call(Follow::default())).await;
        assert_eq!(story.result.unwrap()["body"]["status"], "Succeeded", "{status}");
        assert_eq!(story.waits.len(), leases, "{status}");
        assert!(story.said.last().unwrap().ends_with("the last answer is kept instead"), "{:?}", story.said);
    }
}

#[tokio::test]
async fn a_monitor_tells_why_it_failed() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(202, &[("operation-location", "/op")], "")]);
    let ends = async |document: Value| {
        callee.on("/op", [reply(200, &[], document)]);
        fails(&callee.call(Follow::default())).await
    };
    let (failed, canceled) = ("OperationFailed".to_owned(), "OperationCanceled".to_owned());
    let told = |why: &str| format!("what was begun has failed{why}");
    let document = json!({"status": "FAILED", "error": {"code": "NoDisk", "message": "the disk is full"}});
    assert_eq!(ends(document).await, (failed.clone(), true, told(": NoDisk: the disk is full")));
    assert_eq!(ends(json!({"status": "Failed"})).await, (failed.clone(), true, told("")));
    for word in ["Canceled", "cancelled", "CANCELED"] {
        let (code, retryable, _) = ends(json!({ "status": word })).await;
        assert_eq!((code, retryable), (canceled.clone(), false), "{word}");
    }
    let google = |error: Value| json!({"name": "operations/1", "done": true, "error": error});
    let (code, _, message) = ends(google(json!({"code": 13, "message": "boom"}))).await;
    assert_eq!((code, message), (failed, told(": 13: boom")));
    assert_eq!(ends(google(json!({"code": 1, "message": "stop"}))).await.0, canceled);
}

#[tokio::test]
async fn operations_of_google_and_oci_are_found_by_the_jobs_own_url() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(200, &[], json!({"name": "operations/a-1"}))]);
    callee.on(
        "/v1/operations/a-1",
        [
            reply(200, &[], json!({"name": "operations/a-1", "metadata": {}})),
            reply(200, &[], json!({"name": "operations/a-1", "done": false})),
            reply(200, &[], json!({"name": "operations/a-1", "done": true, "response": {"rows": 9}})),
        ],
    );
    let url = Some(format!("{}/v1/{{{{ body.name }}}}", callee.base));
    let google = callee.call(Follow { url, ..Follow::default() });
    assert_eq!(result(&google).await, Ok(json!({"status": 200, "body": {"rows": 9}})));
    callee.on("/begin", [reply(200, &[], json!({"name": "operations/a-1", "done": true, "response": {"n": 1}}))]);
    let story = lead(&google).await;
    assert_eq!(
        (story.result, story.waits.len()),
        (Ok(json!({"status": 200, "body": {"n": 1}})), 0),
        "it has ended at once"
    );

    callee.on("/begin", [reply(202, &[("opc-work-request-id", "ocid1.x")], "")]);
    let document = |status: &str, percent: u8| {
        reply(200, &[], json!({"id": "ocid1.x", "status": status, "percentComplete": percent}))
    };
    callee.on("/wr/ocid1.x", [document("ACCEPTED", 0), document("IN_PROGRESS", 60), document("SUCCEEDED", 100)]);
    let url = Some(format!("{}/wr/{{{{ headers['opc-work-request-id'] }}}}", callee.base));
    let oci = callee.call(Follow { url, ..Follow::default() });
    let story = lead(&oci).await;
    assert_eq!((story.waits.len(), &story.result.unwrap()["body"]["status"]), (3, &json!("SUCCEEDED")));
    assert_eq!(story.progress[1], (60.0, Some("IN_PROGRESS".to_owned())));

    callee.on("/begin", [reply(202, &[], "")]);
    let (code, retryable, message) = fails(&oci).await;
    assert!(code == "Template" && !retryable && message.starts_with("follow.url can't be rendered"), "{message}");
}

#[tokio::test]
async fn a_location_answers_202_until_the_result_is_there() {
    let callee = Callee::start().await;
    let running = || reply(202, &[("retry-after", "2")], "");
    for (status, end, output) in [
        (202, reply(200, &[], json!({"rows": 9})), json!({"status": 200, "body": {"rows": 9}})),
        (200, reply(201, &[], "made"), json!({"status": 201, "body": "made"})),
        (201, reply(204, &[], ""), json!({"status": 204, "body": null})),
        (202, reply(200, &[], json!({"status": "Shipped"})), json!({"status": 200, "body": {"status": "Shipped"}})),
        (202, reply(303, &[("location", "/result")], ""), json!({"status": 200, "body": "the result"})),
    ] {
        callee.on("/begin", [reply(status, &[("location", "op?x=1")], "")]);
        callee.on("/op?x=1", [running(), running(), end]).on("/result", [reply(200, &[], "the result")]);
        let story = lead(&callee.call(Follow::default())).await;
        assert_eq!((story.result, story.waits), (Ok(output), vec![1000, 2000, 2000]));
    }
    // Who answers 200 while it goes on says so.
    let document = |status: &str| reply(200, &[], json!({ "status": status }));
    callee.on("/op?x=1", [document("in progress"), document("queued"), document("failed")]);
    let story = lead(&callee.call(Follow::default())).await;
    assert_eq!((story.result.unwrap_err().code.as_str(), story.waits.len()), ("OperationFailed", 3));
    // An error in the place of the result.
    callee.on("/op?x=1", [running(), reply(409, &[], json!({"error": "no disk"}))]);
    let (code, _, message) = fails(&callee.call(Follow::default())).await;
    assert!(code == "OperationFailed" && message.contains("no disk"), "{message}");
}

#[tokio::test]
async fn without_an_operation_the_answer_is_the_result_unless_it_promises_one() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(200, &[], json!({"rows": 9}))]);
    assert_eq!(result(&callee.call(Follow::default())).await, Ok(json!({"status": 200, "body": {"rows": 9}})));
    callee.on("/begin", [reply(202, &[("operation-location", "")], "")]);
    let (code, retryable, message) = fails(&callee.call(Follow::default())).await;
    assert_eq!((code.as_str(), retryable), ("OperationUnknown", false));
    assert!(message.contains("write `url` within `follow`"), "{message}");
    callee.on("/begin", [reply(503, &[("location", "/op")], "")]);
    assert_eq!(fails(&callee.call(Follow::default())).await.0, "HttpStatus");
}

fn conditions(callee: &Callee) -> HttpCall {
    let text = |text: &str| Some(text.to_owned());
    callee.call(Follow {
        url: Some(format!("{}/jobs/{{{{ body.id }}}}?day={{{{ input.day }}}}", callee.base)),
        succeeded: text("status == 200 and body.state == 'done'"),
        failed: text("body.state in ['broken', 'gone']"),
        running: text("body.state == 'busy'"),
        percent: text("body.steps.done / body.steps.all * 100"),
        ..Follow::default()
    })
}

#[tokio::test]
async fn the_jobs_own_conditions_take_the_place_of_the_conventions() {
    let callee = Callee::start().await;
    callee.on("/begin", [reply(200, &[], json!({"id": 17, "status": "Succeeded"}))]);
    let busy = reply(200, &[], json!({"state": "busy", "status": "Succeeded", "steps": {"done": 1, "all": 4}}));
    let at = "/jobs/17?day=7";
    callee.on(at, [busy.clone(), busy.clone(), reply(200, &[], json!({"state": "done"}))]);
    let story = lead(&conditions(&callee)).await;
    assert_eq!(story.result, Ok(json!({"status": 200, "body": {"state": "done"}})));
    assert_eq!(story.progress, [(25.0, None), (25.0, None)]);
    callee.on(at, [busy.clone(), reply(500, &[], json!({"state": "broken"}))]);
    assert_eq!(fails(&conditions(&callee)).await.0, "OperationFailed");
    callee.on(at, [busy, reply(200, &[], json!({"state": "asleep"}))]);
    let (code, _, message) = fails(&conditions(&callee)).await;
    assert_eq!(code, "OperationUnclear");
    assert!(message.contains("no condition holds for the answer with status 200 OK"), "{message}");
    let mut lenient = conditions(&callee);
    lenient.follow.as_mut().unwrap().running = None;
    let answers = ["asleep", "awake", "done"].map(|state| reply(200, &[], json!({ "state": state })));
    callee.on(at, answers);
    assert_eq!(lead(&lenient).await.waits.len(), 3, "without `running` all else goes on");
}
