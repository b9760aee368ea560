//! Who is told what of a worker, over a real listener and a real store.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::Response;
use reveille_shared::access::{Grant, KeyText, Role};
use reveille_shared::broker;
use reveille_shared::clock::SystemClock;
use reveille_shared::listen::{Listener, TlsFiles};
use reveille_shared::store::NewKey;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::lease::Ttl;

struct Stand {
    base: String,
    store: Store,
    _server: JoinSet<()>,
    _folder: TempDir,
}

impl Stand {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::clone(&clock)).await.unwrap();
        let broker = broker::connect("embedded", "test", CancellationToken::new()).unwrap();
        // A beat that is overdue from the start.
        let last_beat = LastBeat::new(Ttl::new(Duration::ZERO));
        let door =
            Door { ring: Arc::default(), store: store.clone(), clock: Arc::clone(&clock), turn: Mutex::default() };
        let endpoint = Endpoint {
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            readiness: Readiness { last_beat, broker },
            certificate: Vitals::default(),
            door: Arc::new(door),
        };
        let (listener, _) = Listener::bind("127.0.0.1:0".parse().unwrap(), &TlsFiles::default(), clock).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { listener.serve(router(endpoint), std::future::pending()).await });
        Self { base, store, _server: server, _folder: folder }
    }

    async fn key(&self, grant: Grant) -> KeyText {
        let text = KeyText::generate().unwrap();
        let new = NewKey { text: text.clone(), name: "test".into(), grant, expires_at: None };
        self.store.create_key(new, ("test", None)).await.unwrap();
        text
    }

    async fn get(&self, path: &str, key: Option<&str>) -> Response {
        let request = reqwest::Client::new().get(format!("{}{path}", self.base));
        key.into_iter().fold(request, |request, key| request.bearer_auth(key)).send().await.unwrap()
    }

    async fn refused(&self, path: &str, key: Option<&str>, status: u16, said: &str) {
        let answer = self.get(path, key).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path} {said}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{path} {said}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        assert_eq!(problem["error"]["message"], problem["detail"], "{problem}");
    }
}

#[tokio::test]
async fn metrics_are_for_keys_that_are_good_for_all_namespaces() {
    let stand = Stand::start().await;
    let viewer = Grant { role: Role::Viewer, ..Grant::everything() };
    let key = stand.key(viewer.clone()).await;
    assert_eq!(stand.get("/metrics", Some(&key.reveal())).await.status(), 200);
    stand.refused("/metrics", None, 401, "the request has no key").await;
    stand.refused("/metrics", Some("rvl_bad"), 401, "not a key").await;
    let unknown = KeyText::generate().unwrap().reveal();
    let guessed = KeyText::with_prefix(key.prefix()).unwrap().reveal();
    for text in [&unknown, &guessed] {
        stand.refused("/metrics", Some(text), 401, "the key is not known").await;
    }
    let tenant = stand.key(Grant { namespaces: Names::only(["billing"]), ..viewer.clone() }).await;
    stand.refused("/metrics", Some(&tenant.reveal()), 403, "concerns all namespaces").await;
    let job = stand.key(Grant { jobs: Names::only(["bill"]), ..viewer.clone() }).await;
    stand.refused("/metrics", Some(&job.reveal()), 403, "limited to some jobs").await;
    // What is not there is no different, so that nobody learns what is.
    stand.refused("/nothing", None, 401, "the request has no key").await;
    let revoked = stand.key(viewer).await;
    stand.store.revoke_key(revoked.prefix(), ("test", None)).await.unwrap();
    stand.refused("/metrics", Some(&revoked.reveal()), 401, "was revoked").await;
}

#[tokio::test]
async fn whether_it_lives_and_is_ready_is_for_all_and_why_not_for_keys() {
    let stand = Stand::start().await;
    assert_eq!(stand.get("/livez", None).await.status(), 200);
    let told = async |key: Option<&str>| {
        let answer = stand.get("/readyz", key).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(told(None).await, (503, "database\n".to_owned()));
    let tenant = stand.key(Grant { namespaces: Names::only(["billing"]), ..Grant::everything() }).await.reveal();
    assert_eq!(told(Some(&tenant)).await, (503, "database\n".to_owned()));
    let key = stand.key(Grant::everything()).await.reveal();
    assert_eq!(told(Some(&key)).await, (503, "database: no beat for 0 s\n".to_owned()));
    stand.refused("/readyz", Some("rvl_bad"), 401, "not a key").await;
}
