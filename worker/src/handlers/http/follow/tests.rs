//! Operations that are followed over many leases, on callees that keep to a convention and on those that don't.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use reveille_shared::definition::CancelCall;
use reveille_shared::duration::HumanDuration;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::report::tests::{lines, run_with};
use crate::runs::Why;

/// Status, headers and body; `None` is silence.
type Reply = Option<(u16, Vec<(&'static str, String)>, String)>;

fn reply(status: u16, headers: &[(&'static str, &str)], body: impl ToString) -> Reply {
    Some((status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), body.to_string()))
}

/// Answers to each path as it is told, one reply after the other, the last one again and again.
struct Callee {
    base: String,
    script: Arc<Mutex<HashMap<String, VecDeque<Reply>>>>,
    /// `METHOD path authorization`
    seen: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Callee {
    async fn start() -> Self {
        let script = Arc::new(Mutex::new(HashMap::<String, VecDeque<Reply>>::new()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, heard) = (Arc::clone(&script), Arc::clone(&seen));
        let serve = move |request: Request| {
            let key = request.headers().get("authorization").map_or("-", |value| value.to_str().unwrap()).to_owned();
            let path = request.uri().path_and_query().unwrap().to_string();
            heard.lock().unwrap().push(format!("{} {path} {key}", request.method()));
            let next = {
                let mut script = told.lock().unwrap();
                let replies = script.entry(path).or_default();
                if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
            };
            async move {
                let (status, headers, body) = match next {
                    Some(Some(reply)) => reply,
                    Some(None) => std::future::pending().await,
                    None => (404, vec![], "no such thing".into()),
                };
                let response = Response::builder().status(status);
                let response =
                    headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
                response.body(Body::from(body)).unwrap()
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await.unwrap() });
        Self { base, script, seen, _server: server }
    }

    fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.script.lock().unwrap().insert(path.to_owned(), replies.into_iter().collect());
        self
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// A call of `/begin` that is followed.
    fn call(&self, follow: Follow) -> HttpCall {
        let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer ${env:TOKEN}".to_owned())]);
        HttpCall { headers, follow: Some(follow), ..HttpCall::new("POST", format!("{}/begin", self.base)) }
    }
}

fn variables() -> Variables {
    Variables::of(&[("TOKEN", "s3cret"), ("DIR", "hidden")])
}

/// What became of a call, and how long each lease wanted to wait.
struct Story {
    result: RunResult,
    waits: Vec<u64>,
    notes: Vec<Value>,
    said: Vec<String>,
    progress: Vec<(f32, Option<String>)>,
}

/// Leads a call through as many leases as it takes, without the waiting.
async fn lead(call: &HttpCall) -> Story {
    lead_for(call, Duration::from_secs(86_400)).await
}

/// The same, with so much time.
async fn lead_for(call: &HttpCall, time: Duration) -> Story {
    let (run, mut told) = run_with(json!({"day": 7}));
    let run = Run { deadline: std::time::Instant::now() + time, ..run };
    lead_run(call, &run, &mut told).await
}

async fn lead_run(call: &HttpCall, run: &Run, told: &mut tokio::sync::mpsc::Receiver<crate::report::Note>) -> Story {
    let (caller, variables) = (Caller::new().unwrap(), variables());
    let (mut waits, mut kept) = (Vec::new(), Vec::new());
    let result = loop {
        match caller.call(call, run, &variables, kept.last().cloned()).await {
            Left::Ended(result) => break result,
            Left::Parked { after, notes } => {
                waits.push(u64::try_from(after.as_millis()).unwrap());
                kept.push(notes);
                assert!(kept.len() < 100, "it never ends");
            }
        }
    };
    let (mut said, mut progress) = (Vec::new(), Vec::new());
    while let Ok(note) = told.try_recv() {
        match note {
            crate::report::Note::Line(_, line) => said.push(line.text),
            crate::report::Note::Progress(step) => progress.push((step.percent, step.message)),
            crate::report::Note::End(end) => panic!("{end:?}"),
        }
    }
    Story { result, waits, notes: kept, said, progress }
}

async fn result(call: &HttpCall) -> RunResult {
    lead(call).await.result
}

/// Both the code of a failure and whether it may be retried.
async fn fails(call: &HttpCall) -> (String, bool, String) {
    let failure = result(call).await.unwrap_err();
    (failure.code, failure.retryable, failure.message)
}

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
    let (caller, variables) = (Caller::new().unwrap(), variables());
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
    let (caller, variables) = (Caller::new().unwrap(), variables());
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
    let Left::Ended(result) = left else { panic!() };
    assert_eq!(result, Err(RunFailure::stopped()), "the store parks it again");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
