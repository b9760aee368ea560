//! Keys of an HTTP call whose operation is followed, or whose answer is not read.

use reveille_shared::definition::{Follow, Handler, HttpCall};

use super::{faults, read, report};

fn job(keys: &str) -> String {
    format!("version: 1\njobs:\n  a: {{ http: {{ url: http://a, {keys} }} }}\n")
}

fn call(keys: &str) -> HttpCall {
    let job = read(&job(keys)).unwrap_or_else(|faults| panic!("{faults}")).jobs.remove(0);
    match job.handler {
        Handler::Http(call) => call,
        handler => panic!("{handler:?}"),
    }
}

#[test]
fn an_operation_is_followed_by_a_word_or_by_a_map() {
    assert_eq!((call("method: PUT").follow, call("follow: false").follow), (None, None));
    assert_eq!(call("follow: true").follow, Some(Box::default()));
    assert_eq!(call("follow: {}").follow, Some(Box::default()));
    let keys = "url: \"http://b/{{ body.id }}{{ headers['x-id'] }}\", succeeded: body.ok, failed: status == 500, \
                running: not body.ok, percent: body.n, poll: { min: 5s, max: 2m }, cancel: delete";
    let text = |text: &str| Some(text.to_owned());
    let all = Follow {
        url: text("http://b/{{ body.id }}{{ headers['x-id'] }}"),
        succeeded: text("body.ok"),
        failed: text("status == 500"),
        running: text("not body.ok"),
        percent: text("body.n"),
        least: "5s".parse().unwrap(),
        most: "2m".parse().unwrap(),
        delete: true,
    };
    assert_eq!(call(&format!("follow: {{ {keys} }}")).follow, Some(Box::new(all)));
    let bounds = |poll: &str| {
        let follow = call(&format!("follow: {{ poll: {{ {poll} }} }}")).follow.unwrap();
        (follow.least.to_string(), follow.most.to_string())
    };
    let of = |least: &str, most: &str| (least.to_owned(), most.to_owned());
    assert_eq!(bounds("min: 5m"), of("5m", "5m"), "who wants longer waits does not want the built-in bound");
    assert_eq!(bounds("max: 500ms"), of("500ms", "500ms"));
    assert_eq!(bounds("min: 2s"), of("2s", "1m"));
}

#[test]
fn a_call_may_be_one_way() {
    assert!(call("one_way: true").one_way && !call("one_way: false, follow: true").one_way);
    assert!(call("one_way: true, follow: false").one_way);
}

#[test]
fn what_was_stored_before_is_equal_to_the_same_read_now() {
    let plain = serde_json::to_value(call("method: GET")).unwrap();
    assert_eq!(plain, serde_json::json!({"method": "GET", "url": "http://a"}));
}

#[test]
fn each_fault_of_follow() {
    let follow = |keys: &str| job(&format!("follow: {{ {keys} }}"));
    let cases = [
        ("a word", job("follow: yes please")),
        ("a list", job("follow: [poll]")),
        ("both ways", job("follow: true, one_way: true")),
        ("both ways, and a map", job("one_way: true, follow: { poll: { min: 1s } }")),
        ("poll beside it", job("follow: true, poll: { min: 1s }")),
        ("a secret that would be stored", follow("url: \"https://b/${env:TOKEN}/{{ body.id }}\"")),
        ("no url", follow("url: \"/operations/{{ body.id }}\"")),
        (
            "unknown names",
            follow("url: \"https://b/{{ bdy.id }}\", succeeded: state == 'done', percent: body.n | rond"),
        ),
        ("conditions without an end", follow("running: body.busy")),
        ("no condition", follow("succeeded: true, percent: 5")),
        ("too often", follow("poll: { min: 50ms }")),
        ("upside down", follow("poll: { min: 2m, max: 90s }")),
        ("other keys", follow("timeout: 5m, headers: {}, method: POST, interval: 5s, cancel: put")),
        ("two ways to cancel", job("cancel: { url: http://a/stop }, follow: { cancel: delete }")),
        ("of another handler", "version: 1\njobs:\n  a: { function: f, follow: true }\n".to_owned()),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn the_url_knows_the_answer_and_conditions_do_not_know_its_headers() {
    let told = faults(&job("follow: { url: \"http://b/{{ output }}\", succeeded: \"headers.x == 'y'\" }"));
    assert_eq!(told.len(), 2, "{told}");
}
