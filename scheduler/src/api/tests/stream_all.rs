//! What happens to all runs, as a stream of server-sent events.

use reveille_shared::clock::{Clock as _, SystemClock};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Method, Request};
use futures_util::StreamExt as _;
use jiff::SignedDuration;
use reveille_shared::access::{Names, Role};
use reveille_shared::store::{NewWorkRequest, Outcome};
use reveille_shared::work_request::WorkRequestId;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::access::keyed;
use super::{Api, HOST};

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(20);
const PATH: &str = "/v1/workRequests:stream";

/// A stream that is being read.
struct Stream {
    body: BodyDataStream,
    text: String,
}

/// One event: its id, and what it tells, if it tells anything.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    id: String,
    told: Option<(String, Value)>,
}

impl Stream {
    async fn open(api: &Api, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(format!("{PATH}{query}")).header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event, or none when the stream has ended.
    async fn next(&mut self) -> Option<Heard> {
        while !self.text.contains("\n\n") {
            let more = timeout(LONG, self.body.next()).await.expect("nothing is told")?.unwrap();
            self.text += std::str::from_utf8(&more).unwrap();
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let told = field("data").map(|data| (field("event").unwrap().to_owned(), serde_json::from_str(data).unwrap()));
        let heard = Heard { id: field("id").unwrap().to_owned(), told };
        self.text = rest.to_owned();
        Some(heard)
    }

    /// The next event that tells anything: its id, what has happened, and all of it.
    async fn told(&mut self) -> (String, String, Value) {
        loop {
            let Heard { id, told } = self.next().await.expect("the stream has ended");
            if let Some((what, data)) = told {
                return (id, what, data);
            }
        }
    }

    /// What the next events tell: whose, and what.
    async fn tells(&mut self, count: usize) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for _ in 0..count {
            let (_, what, data) = self.told().await;
            all.push((data["workRequestId"].as_str().unwrap().to_owned(), what));
        }
        all
    }
}

/// What a run of job `hello` goes through that succeeds.
async fn run(api: &Api) -> String {
    let id = api.trigger("hello").await;
    let played = api.lease().await;
    api.report(&played, Outcome::Succeeded { output: json!(null) }).await;
    id
}

fn of(id: &str, what: &[&str]) -> Vec<(String, String)> {
    what.iter().map(|what| (id.to_owned(), (*what).to_owned())).collect()
}

#[tokio::test]
async fn all_that_happens_is_told_to_all_who_listen() {
    let api = Api::new().await;
    run(&api).await;
    let (mut first, mut second) = (Stream::open(&api, "", &[]).await, Stream::open(&api, "", &[]).await);
    let begin = first.next().await.unwrap();
    assert_eq!((begin.told, second.next().await.unwrap().id), (None, begin.id));
    let id = run(&api).await;
    let (number, what, data) = first.told().await;
    assert_eq!((what.as_str(), &data["status"], &data["event"]["seq"]), ("accepted", &json!("ACCEPTED"), &json!(1)));
    assert_eq!(
        (&data["workRequestId"], &data["job"], &data["namespace"]),
        (&json!(id), &json!("hello"), &json!("default"))
    );
    assert_eq!(first.tells(2).await, of(&id, &["started", "succeeded"]));
    let same = second.told().await;
    assert_eq!((same.0, same.2), (number, data));
    assert_eq!(second.tells(2).await, of(&id, &["started", "succeeded"]));
    drop((first, second));
    // Who comes when nobody has listened for a moment begins at the end.
    let mut third = Stream::open(&api, "", &[]).await;
    let id = run(&api).await;
    assert_eq!(third.tells(3).await, of(&id, &["accepted", "started", "succeeded"]));
}

#[tokio::test]
async fn a_filter_lets_through_what_it_names() {
    let api = Api::new().await;
    let parent = WorkRequestId::new(SystemClock.now());
    let queries =
        ["?job=hello", "?job=call", "?schedule=often", "?status=SUCCEEDED,FAILED", "?status=CANCELED&job=call", ""];
    let mut streams = Vec::new();
    for query in queries {
        streams.push(Stream::open(&api, query, &[]).await);
    }
    let mut children = Stream::open(&api, &format!("?parent={parent}"), &[]).await;
    let mut elsewhere = Stream::open(&api, "", &[("x-reveille-namespace", "other")]).await;
    let hello = run(&api).await;
    let call = api.trigger("call").await;
    api.call(Method::DELETE, &format!("/v1/workRequests/{call}"), &[], Body::empty()).await;
    let fire = api.post("/v1/schedules/often:trigger", "").await;
    assert_eq!(fire.status, 202, "{}", fire.text);
    let fired = fire.json["workRequests"][0]["id"].as_str().unwrap().to_owned();
    let child = WorkRequestId::new(SystemClock.now());
    let definition = reveille_shared::definition::Job::new(
        "default",
        "hello",
        reveille_shared::definition::Handler::Function("noop".into()),
    );
    let request = NewWorkRequest { parent: Some(parent), ..NewWorkRequest::new(child, &definition, 1, "test") };
    api.store.accept(request, None).await.unwrap();
    let child = child.to_string();
    let [of_hello, of_call, of_often, ends, canceled, all] = &mut streams[..] else { panic!("six") };
    let (lived, ended) = (of(&hello, &["accepted", "started", "succeeded"]), of(&call, &["accepted", "canceled"]));
    let (fired, born) = (of(&fired, &["accepted"]), of(&child, &["accepted"]));
    assert_eq!(of_hello.tells(5).await, [&lived[..], &fired, &born].concat());
    assert_eq!(of_call.tells(2).await, ended);
    assert_eq!(of_often.tells(1).await, fired);
    assert_eq!(ends.tells(1).await, lived[2..]);
    assert_eq!(canceled.tells(1).await, ended[1..]);
    assert_eq!(all.tells(7).await, [&lived[..], &ended, &fired, &born].concat());
    assert_eq!(children.tells(1).await, born);
    let own = api.call(Method::POST, "/v1/jobs/hello/trigger", &["x-reveille-namespace: other"], Body::empty()).await;
    assert_eq!(own.status, 404, "nothing is there, and nothing was told of others");
    elsewhere.next().await.unwrap();
    let more = timeout(Duration::from_millis(300), elsewhere.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_key_hears_of_its_own_jobs_only() {
    let api = keyed().await;
    let all = api.key(Role::Operator, Names::All, Names::All).await;
    let some = api.key(Role::Viewer, Names::All, Names::Only(["call".to_owned()].into())).await;
    let mut of_all = Stream::open(&api, "", &[("x-api-key", &all)]).await;
    let mut of_some = Stream::open(&api, "", &[("x-api-key", &some)]).await;
    let mut ids = Vec::new();
    for job in ["hello", "call"] {
        let headers = [format!("x-api-key: {all}")];
        let asked = api.call(Method::POST, &format!("/v1/jobs/{job}/trigger"), &[&headers[0]], Body::empty()).await;
        ids.push(asked.json["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(of_all.tells(2).await, [of(&ids[0], &["accepted"]), of(&ids[1], &["accepted"])].concat());
    assert_eq!(of_some.tells(1).await, of(&ids[1], &["accepted"]));
    let begin = api.call(Method::GET, PATH, &[], Body::empty()).await;
    assert_eq!(begin.status, 401, "before any of it");
}

#[tokio::test]
async fn whoever_comes_again_hears_the_rest() {
    let api = Api::new().await;
    let mut stream = Stream::open(&api, "", &[]).await;
    let begin = stream.next().await.unwrap().id;
    for _ in 0..4 {
        run(&api).await;
    }
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(stream.told().await);
    }
    drop(stream);
    let ids: Vec<_> = std::iter::once(begin).chain(all.iter().map(|(id, ..)| id.clone())).collect();
    for (seen, id) in ids.into_iter().enumerate() {
        let mut again = Stream::open(&api, "", &[("last-event-id", &id)]).await;
        assert_eq!(again.next().await.unwrap(), Heard { id: id.clone(), told: None });
        for expected in &all[seen..] {
            assert_eq!(again.told().await, *expected, "behind {id}");
        }
        // From what is stored to what happens now.
        let next = run(&api).await;
        for what in ["accepted", "started", "succeeded"] {
            let told = again.told().await;
            assert_eq!((told.1.as_str(), &told.2["workRequestId"]), (what, &json!(next)));
            all.push(told);
        }
    }
}

#[tokio::test]
async fn an_id_that_leads_nowhere_is_told_so() {
    let api = Api::new().await;
    let mut stream = Stream::open(&api, "", &[]).await;
    let begin: i64 = stream.next().await.unwrap().id.parse().unwrap();
    run(&api).await;
    let last: i64 = stream.told().await.0.parse().unwrap();
    for gone in [0, begin - 1, last + 1_000, i64::MAX] {
        let answer = api.call(Method::GET, PATH, &[&format!("last-event-id: {gone}")], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (410, &json!("Expired")), "{gone}");
    }
    for made_up in ["x", "-1", "1.5", "99999999999999999999", "\u{e9}"] {
        let header = format!("last-event-id: {made_up}");
        let answer = api.call(Method::GET, PATH, &[&header], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["Last-Event-ID"]), "{made_up}");
    }
    // What has happened since is older than is kept.
    let later = api.store.now().await.unwrap().saturating_add(SignedDuration::from_secs(1)).unwrap();
    api.store.trim_feed(later, 2).await.unwrap();
    let answer = api.call(Method::GET, PATH, &[&format!("last-event-id: {last}")], Body::empty()).await;
    assert_eq!(answer.status, 410, "the one behind it is gone too");
    for query in ["?job=Hello", "?status=DONE", "?parent=x", "?wait=30s", "?job=a&job=b"] {
        assert_eq!(api.get(&format!("{PATH}{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn who_can_not_be_told_all_is_not_told_a_part() {
    let api = Api::new().await;
    let mut stream = Stream::open(&api, "", &[]).await;
    stream.next().await.unwrap();
    run(&api).await;
    let last = stream.tells(3).await.len();
    assert_eq!(last, 3);
    // As if this process had stood still for more than an hour, while others have listened, and stopped.
    let later = api.store.now().await.unwrap().saturating_add(SignedDuration::from_secs(1)).unwrap();
    api.store.trim_feed(later, 1).await.unwrap();
    run(&api).await;
    api.store.keep_feed().await.unwrap();
    run(&api).await;
    assert_eq!(stream.next().await, None);
    let mut anew = Stream::open(&api, "", &[]).await;
    let id = run(&api).await;
    assert_eq!(anew.tells(3).await, of(&id, &["accepted", "started", "succeeded"]));
}
