//! Large bodies come by turns, and are in nobody's way.

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, Api};

const HELLO: &str = "/v1/jobs/hello/trigger";
const JSON: &[&str] = &["content-type: application/json"];

/// A good body of this many bytes, that comes in two parts: the second one when it is let go.
fn in_two_parts(size: usize) -> (Body, oneshot::Sender<()>) {
    let text = json!({ "input": {} }).to_string();
    let padding = Bytes::from(" ".repeat(size - text.len()));
    let (let_go, wait) = oneshot::channel::<()>();
    let end = futures_util::stream::once(async move {
        wait.await.unwrap();
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    (Body::from_stream(futures_util::stream::iter([Ok(padding)]).chain(end)), let_go)
}

async fn large(api: &Api, body: Body) -> Answer {
    api.call(Method::POST, HELLO, JSON, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_come_by_turns_and_small_ones_pass() {
    let api = Api::new().await;
    let size = 300 * 1024;
    let (first, let_first_go) = in_two_parts(size);
    let (second, let_second_go) = in_two_parts(size);
    let accepted = async {
        let (first, second) = tokio::join!(large(&api, first), large(&api, second));
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (202, 202), "{} {}", first.text, second.text);
    };
    let refused = async {
        // Whoever says how large it is takes no more room than that; so much there still is.
        let known = large(&api, Body::from(" ".repeat(size) + "{}")).await;
        assert_eq!(known.status, 202, "{}", known.text);
        let start = Instant::now();
        let (third, _let_go) = in_two_parts(size);
        let (fourth, _let_go_too) = in_two_parts(size);
        let answers = tokio::join!(large(&api, third), large(&api, fourth), async {
            let small = api.post(HELLO, "{}").await;
            assert_eq!(small.status, 202, "{}", small.text);
            let unmeasured = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]));
            assert_eq!(large(&api, unmeasured).await.status, 202);
            assert!(start.elapsed().as_secs_f64() < 1.5, "{:?}", start.elapsed());
        });
        for refused in [answers.0, answers.1] {
            assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "5"), "{}", refused.text);
        }
        let_first_go.send(()).unwrap();
        let_second_go.send(()).unwrap();
    };
    tokio::join!(accepted, refused);
    // Their room is free again.
    let again = large(&api, Body::from(" ".repeat(size) + "{}")).await;
    assert_eq!(again.status, 202, "{}", again.text);
}
