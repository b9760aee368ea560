//! One post to a webhook's target: signed, bounded in time and size, to allowed addresses only, no redirects followed.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use reveille_shared::clock::Clock;
use reveille_shared::store::DeliveryAttempt;
use reveille_shared::telemetry::chain;
use tokio::time::Instant;

use super::secrets::SigningSecret;
use super::signature::signatures;
use super::targets::{self, Allowed, PrivateAddress, Resolver};

/// How long one post may take, from looking up the name to the end of the answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, so that its connection can be used again.
const READ: usize = 16 * 1024;
const EVENT_JSON: &str = "application/cloudevents+json";

/// Posts. Connections are kept for later ones.
#[derive(Debug)]
pub(crate) struct Poster {
    client: Client,
    allowed: Allowed,
    clock: Arc<dyn Clock>,
}

/// What is posted.
#[derive(Debug)]
pub(crate) struct Post {
    /// The event's id, the same each time.
    pub(crate) id: String,
    /// The event.
    pub(crate) body: String,
    /// All that sign it.
    pub(crate) secrets: Vec<SigningSecret>,
}

/// What came of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// For the log of deliveries.
    pub(crate) attempt: DeliveryAttempt,
    /// How long the target wants to be left alone, if it says so.
    pub(crate) retry_after: Option<SignedDuration>,
}

impl Answer {
    /// Whether the event was taken.
    pub(crate) const fn is_taken(&self) -> bool {
        self.attempt.error.is_none()
    }

    /// Whether nobody is there any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.attempt.status == Some(StatusCode::GONE.as_u16())
    }
}

impl Poster {
    pub(crate) fn new(allowed: Allowed, clock: Arc<dyn Clock>) -> reqwest::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            // One in the environment would connect to whatever it is told, and by its own resolver.
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(allowed.clone())))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client, allowed, clock })
    }

    /// What may be posted to.
    pub(crate) const fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Posts.
    pub(crate) async fn post(&self, url: &str, post: Post) -> Answer {
        let (at, begun) = (self.clock.now(), Instant::now());
        let (status, error, retry_after) = match self.exchange(url, post, at.as_second()).await {
            Ok(answer) => {
                let status = answer.status();
                let retry_after = retry_after(answer.headers(), at);
                drain(answer).await;
                (Some(status.as_u16()), refusal(status), retry_after)
            }
            Err(error) => (None, Some(error), None),
        };
        let ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        Answer { attempt: DeliveryAttempt { at, ms, status, error }, retry_after }
    }

    async fn exchange(&self, url: &str, post: Post, timestamp: i64) -> Result<Response, String> {
        let url = targets::target(url, &self.allowed).map_err(|error| format!("the URL {error}"))?;
        let Post { id, body, secrets } = post;
        let signatures = signatures(&secrets, &id, timestamp, body.as_bytes());
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, EVENT_JSON)
            .header(USER_AGENT, concat!("reveille/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .body(body);
        request.send().await.map_err(|error| words(error.without_url()))
    }
}

fn refusal(status: StatusCode) -> Option<String> {
    match status {
        _ if status.is_success() => None,
        _ if status.is_redirection() => Some(format!("answered {status}: redirects are not followed")),
        _ => Some(format!("answered {status}")),
    }
}

fn words(error: reqwest::Error) -> String {
    if is_private(&error) {
        PrivateAddress.to_string()
    } else if error.is_timeout() {
        format!("no answer within {LIMIT:?}")
    } else {
        format!("no answer: {}", chain(&error))
    }
}

fn is_private(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if one.is::<PrivateAddress>() {
            return true;
        }
        cause = one.source();
    }
    false
}

/// Reads some of the answer; what it says is nobody's business.
async fn drain(mut answer: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        if read > READ {
            break;
        }
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<SignedDuration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(seconds.into()));
    let wait = seconds.or_else(|| {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(at.duration_since(now))
    });
    wait.filter(|wait| wait.is_positive())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::post;
    use reqwest::dns::Resolve as _;
    use reveille_shared::clock::SystemClock;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    fn poster(allowed: Allowed) -> Poster {
        Poster::new(allowed, Arc::new(SystemClock)).unwrap()
    }

    fn ping() -> Post {
        Post { id: "a/1".into(), body: "{}".into(), secrets: vec![SigningSecret::generate()] }
    }

    async fn serve(router: Router) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, mut server) = (listener.local_addr().unwrap(), JoinSet::new());
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (address, server)
    }

    #[tokio::test]
    async fn success_alone_is_taken_and_redirects_are_not_followed() {
        let elsewhere = axum::response::Redirect::temporary("/good");
        let router = Router::new()
            .route("/good", post(async || "thanks"))
            .route("/away", post(async move || elsewhere))
            .route("/broken", post(async || (StatusCode::INTERNAL_SERVER_ERROR, [(RETRY_AFTER, "7")])))
            .route("/gone", post(async || StatusCode::GONE));
        let (address, _server) = serve(router).await;
        let poster = poster(Allowed::loopback());
        let to = async |path: &str| poster.post(&format!("http://{address}{path}"), ping()).await;
        let good = to("/good").await;
        assert!(good.is_taken() && good.attempt.status == Some(200), "{good:?}");
        let away = to("/away").await;
        assert_eq!(away.attempt.error.as_deref(), Some("answered 307 Temporary Redirect: redirects are not followed"));
        let broken = to("/broken").await;
        assert_eq!((broken.attempt.status, broken.retry_after), (Some(500), Some(SignedDuration::from_secs(7))));
        assert!(to("/gone").await.is_gone() && !broken.is_gone() && !broken.is_taken());
    }

    #[tokio::test]
    async fn no_private_address_is_connected_to_by_whatever_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let none = poster(Allowed::default());
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
            let answer = none.post(&format!("http://{host}:{port}/"), ping()).await;
            let error = answer.attempt.error.unwrap();
            assert!(error.contains("private address") && !error.contains("127.0.0.1"), "{error}");
        }
        // A name that is no special one: the resolver has the last word.
        let resolver = Resolver(Allowed::default());
        let refused = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.is::<PrivateAddress>());
        // Nobody has connected: the first who does is this one.
        let mut probe = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        probe.write_all(b"probe").await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, probe.local_addr().unwrap());
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_to_a_bound() {
        let endless = async || {
            let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 4096]));
            axum::body::Body::from_stream(chunks)
        };
        let (address, _server) = serve(Router::new().route("/", post(endless))).await;
        let answer = poster(Allowed::loopback()).post(&format!("http://{address}/"), ping()).await;
        assert!(answer.is_taken() && answer.attempt.ms < 5_000, "{answer:?}");
    }

    #[tokio::test]
    async fn an_error_shows_no_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let answer = poster(Allowed::loopback()).post(&format!("http://{address}/hunter2"), ping()).await;
        let error = answer.attempt.error.unwrap();
        assert!(error.starts_with("no answer") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_and_lies_ahead() {
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Sun, 01 Mar 2026 10:05:00 GMT"), Some(300));
        for nothing in ["0", "-1", "soon", "", "Sun, 01 Mar 2026 09:00:00 GMT"] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
    }
}
