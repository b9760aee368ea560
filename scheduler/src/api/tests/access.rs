//! Keys: who is let in, what each role may do, and that tenants are kept apart.

use axum::http::Method;
use reveille_shared::access::{Grant, KeyText, Names, Role};
use reveille_shared::clock::Clock as _;
use reveille_shared::store::{KeyRing, NewKey};
use serde_json::json;

use super::*;

const OTHER: &str = "
version: 1
namespace: other
jobs:
  secret: { command: [echo, secret] }
  hello: { command: [echo, other] }
schedules:
  hidden: { every: 30s, trigger: secret }
";

/// The API where callers need keys; two namespaces have definitions.
pub(super) async fn keyed() -> Api {
    let ring = Arc::new(KeyRing::default());
    let api = Api::with(Access::Keys(ring)).await;
    let texts = [("test.yaml".into(), DEFINITIONS.into()), ("other.yaml".into(), OTHER.into())];
    let definitions = read_texts(&texts).unwrap();
    api.store.apply_definitions(api.leader, &definitions, &definitions.digest(), "test").await.unwrap();
    api
}

impl Api {
    /// A fresh key.
    pub(super) async fn key(&self, role: Role, namespaces: Names, jobs: Names) -> String {
        self.key_until(role, namespaces, jobs, None).await.1
    }

    async fn key_until(
        &self,
        role: Role,
        namespaces: Names,
        jobs: Names,
        expires_at: Option<jiff::Timestamp>,
    ) -> (String, String) {
        let text = KeyText::generate().unwrap();
        let new = NewKey { text: text.clone(), name: "ci".into(), grant: Grant { role, namespaces, jobs }, expires_at };
        self.store.create_key(new, ("test", None)).await.unwrap();
        (text.prefix().to_owned(), text.reveal())
    }

    async fn as_key(&self, key: &str, method: Method, path: &str, body: &str) -> Answer {
        self.as_key_in(key, None, method, path, body).await
    }

    async fn as_key_in(&self, key: &str, namespace: Option<&str>, method: Method, path: &str, body: &str) -> Answer {
        let mut headers = vec![format!("x-api-key: {key}")];
        headers.extend(namespace.map(|name| format!("x-reveille-namespace: {name}")));
        if !body.is_empty() {
            headers.push("content-type: application/json".to_owned());
        }
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        self.call(method, path, &headers, body.to_owned()).await
    }
}

#[tokio::test]
async fn without_a_good_key_nobody_learns_anything() {
    let api = keyed().await;
    let unknown = KeyText::generate().unwrap().reveal();
    let (prefix, expired) = api.key_until(Role::Admin, Names::All, Names::All, Some(jiff::Timestamp::UNIX_EPOCH)).await;
    let (revoked_prefix, revoked) = api.key_until(Role::Admin, Names::All, Names::All, None).await;
    api.store.revoke_key(&revoked_prefix, ("test", None)).await.unwrap();
    let shown = format!("x-api-key: {expired}");
    let texts = [
        vec![],
        vec!["x-api-key: "],
        vec!["x-api-key: rvl_x_y"],
        vec!["authorization: Bearer x"],
        vec!["authorization: Basic YTpi"],
        vec![shown.as_str()],
    ];
    let id = WorkRequestId::new(SystemClock.now());
    for headers in texts {
        for path in ["/v1/jobs", "/v1/jobs/hello", "/v1/jobs/nothing", "/metrics", "/v1/nowhere"] {
            let answer = api.call(Method::GET, path, &headers, "").await;
            assert_eq!(answer.status, 401, "{path} {headers:?} {}", answer.text);
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"reveille\"");
            assert_eq!(answer.json["code"], "Unauthorized");
        }
        let stream = api.call(Method::GET, &format!("/v1/workRequests/{id}/stream"), &headers, "").await;
        assert_eq!((stream.status.as_u16(), stream.header("content-type")), (401, "application/problem+json"));
    }
    let said = |answer: Answer| answer.json["detail"].as_str().unwrap().to_owned();
    assert!(said(api.as_key(&expired, Method::GET, "/v1/jobs", "").await).contains(&format!("{prefix} has expired")));
    assert!(said(api.as_key(&revoked, Method::GET, "/v1/jobs", "").await).contains("was revoked"));
    assert_eq!(said(api.as_key(&unknown, Method::GET, "/v1/jobs", "").await), "the key is not known");
    // Whoever knows a prefix only is not told what became of the key.
    let guessed = KeyText::with_prefix(&prefix).unwrap().reveal();
    assert_eq!(said(api.as_key(&guessed, Method::GET, "/v1/jobs", "").await), "the key is not known");
    for path in ["/", "/livez", "/readyz", "/openapi.json", "/ui/app.js"] {
        assert_ne!(api.get(path).await.status, 401, "{path}");
    }
    let ready = api.get("/readyz").await;
    assert!(!ready.text.contains("detail\":\"answers"), "{}", ready.text);
}

#[tokio::test]
async fn a_key_is_taken_from_any_of_its_headers() {
    let api = keyed().await;
    let key = api.key(Role::Viewer, Names::All, Names::All).await;
    for headers in [
        vec![format!("x-api-key: {key}")],
        vec![format!("x-goog-api-key: {key}")],
        vec![format!("authorization: Bearer {key}")],
        vec![format!("x-api-key: {key}"), "authorization: Signature version=\"1\"".to_owned()],
    ] {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        assert_eq!(api.call(Method::GET, "/v1/jobs", &headers, "").await.status, 200, "{headers:?}");
    }
}

/// Every operation of the document, with a body that would do if the role did.
fn operations() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(include_str!("../../../openapi.json")).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            // The stream of all runs would never end.
            let path = path.replace(":stream", ":stream?status=NONE");
            operations.push((method.to_uppercase().parse().unwrap(), path));
        }
    }
    operations
}

#[tokio::test]
async fn viewers_read_operators_act_and_admins_change_what_there_is() {
    let api = keyed().await;
    let [viewer, operator, admin] = [
        api.key(Role::Viewer, Names::All, Names::All).await,
        api.key(Role::Operator, Names::All, Names::All).await,
        api.key(Role::Admin, Names::All, Names::All).await,
    ];
    let for_admins = |path: &str| {
        ["/v1/keys", "/v1/audit", "/v1/webhooks", "/v1/definitions:apply"].iter().any(|begin| path.starts_with(begin))
    };
    let mut seen = 0;
    for (method, template) in operations() {
        let path = template.replace("{job}", "hello").replace("{schedule}", "often").replace(['{', '}'], "");
        let answer = async |key: &str| api.as_key(key, method.clone(), &path, "").await.status.as_u16();
        let only_looks = method == Method::GET || path.ends_with(":plan") || path.ends_with(":wait");
        let expected = match (for_admins(&path), only_looks) {
            (true, _) => [403, 403],
            (false, true) => [0, 0],
            (false, false) => [403, 0],
        };
        let got = [answer(&viewer).await, answer(&operator).await].map(|status| if status == 403 { 403 } else { 0 });
        assert_eq!(got, expected, "{method} {path}");
        assert_ne!(answer(&admin).await, 403, "{method} {path}");
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

#[tokio::test]
async fn nothing_tells_whether_something_is_in_another_namespace() {
    let api = keyed().await;
    let mine = api.key(Role::Admin, Names::only(["default"]), Names::All).await;
    let theirs = api.key(Role::Operator, Names::only(["other"]), Names::All).await;
    let started = api.as_key(&theirs, Method::POST, "/v1/jobs/secret/trigger", "{}").await;
    assert_eq!(started.status, 202, "a key for one namespace needs to name none: {}", started.text);
    let id = started.json["id"].as_str().unwrap();
    // A namespace that there is and one that there isn't are refused alike.
    for namespace in ["other", "nowhere"] {
        let refused = api.as_key_in(&mine, Some(namespace), Method::GET, "/v1/jobs", "").await;
        assert_eq!(refused.status, 403);
        assert_eq!(refused.json["detail"], format!("the key is not for namespace {namespace}"));
    }
    for path in [
        format!("/v1/workRequests/{id}"),
        format!("/v1/workRequests/{id}/events"),
        format!("/v1/workRequests/{id}/logs"),
        format!("/v1/workRequests/{id}/errors"),
        format!("/v1/workRequests/{id}/result"),
        format!("/v1/workRequests/{id}/stream"),
        format!("/v1/workRequests/{id}/lateReports"),
        format!("/20160918/workRequests/{id}"),
        format!("/v1/operations/{id}"),
        format!("/v1/compartments/other/operations/{id}"),
        "/v1/jobs/secret".to_owned(),
        "/v1/jobs/secret/history".to_owned(),
        "/v1/schedules/hidden".to_owned(),
        "/v1/schedules/hidden/fires".to_owned(),
    ] {
        let answer = api.as_key(&mine, Method::GET, &path, "").await;
        assert_eq!(answer.status, 404, "{path} {}", answer.text);
        let nothing = api
            .as_key(&mine, Method::GET, &path.replace(id, &WorkRequestId::new(SystemClock.now()).to_string()), "")
            .await;
        assert_eq!(nothing.status, 404, "{path}");
    }
    for path in ["/v1/workRequests", "/20160918/workRequests?compartmentId=other", "/v1/operations", "/v1/jobs"] {
        let answer = api.as_key(&mine, Method::GET, path, "").await;
        assert!(
            answer.status == 200 && !answer.text.contains("secret") && !answer.text.contains(id),
            "{path} {}",
            answer.text
        );
    }
    for path in ["/v1/workers", "/v1/queues", "/v1/refusedEvents", "/metrics", "/v1/audit?everywhere=true"] {
        assert_eq!(api.as_key(&mine, Method::GET, path, "").await.status, 403, "{path}");
    }
    assert_eq!(api.as_key(&mine, Method::DELETE, &format!("/v1/workRequests/{id}"), "").await.status, 404);
    let canceled = api.as_key(&mine, Method::POST, "/v1/workRequests:cancel", r#"{"all": true}"#).await;
    assert_eq!((canceled.status.as_u16(), &canceled.json["matched"]), (200, &json!(0)));
    // Definitions of another namespace are refused as a whole.
    for verb in ["plan", "apply"] {
        let body = json!({"files": [{"name": "a.yaml", "text": OTHER}]}).to_string();
        let refused = api.as_key(&mine, Method::POST, &format!("/v1/definitions:{verb}"), &body).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
    }
    // Keys of the other namespace don't exist either, nor do those for several.
    let (prefix, _) = theirs[4..].split_once('_').unwrap();
    assert_eq!(api.as_key(&mine, Method::GET, &format!("/v1/keys/{prefix}"), "").await.status, 404);
    assert_eq!(api.as_key(&mine, Method::POST, &format!("/v1/keys/{prefix}:revoke"), "").await.status, 404);
    let keys = api.as_key(&mine, Method::GET, "/v1/keys", "").await;
    assert_eq!(keys.json["items"].as_array().unwrap().len(), 1, "{}", keys.text);
}

#[tokio::test]
async fn a_key_for_some_jobs_knows_no_others() {
    let api = keyed().await;
    let limited = api.key(Role::Operator, Names::only(["default"]), Names::only(["hello"])).await;
    let whole = api.key(Role::Operator, Names::only(["default"]), Names::All).await;
    let other =
        api.as_key(&whole, Method::POST, "/v1/jobs/call/trigger", "{}").await.json["id"].as_str().unwrap().to_owned();
    let own = api.as_key(&limited, Method::POST, "/v1/jobs/hello/trigger", "{}").await;
    assert_eq!(own.status, 202, "{}", own.text);
    assert_eq!(api.as_key(&limited, Method::POST, "/v1/jobs/call/trigger", "{}").await.status, 404);
    for path in [
        "/v1/jobs/call",
        "/v1/jobs/call/history",
        &format!("/v1/workRequests/{other}"),
        &format!("/v1/operations/{other}"),
    ] {
        assert_eq!(api.as_key(&limited, Method::GET, path, "").await.status, 404, "{path}");
    }
    for path in
        ["/v1/workRequests", "/v1/workRequests?job=call", "/20160918/workRequests", "/v1/operations", "/v1/jobs"]
    {
        let answer = api.as_key(&limited, Method::GET, path, "").await;
        assert!(answer.status == 200 && !answer.text.contains("call"), "{path} {}", answer.text);
    }
    for path in ["/v1/schedules", "/v1/schedules/often", "/v1/queues", "/v1/keys"] {
        assert_eq!(api.as_key(&limited, Method::GET, path, "").await.status, 403, "{path}");
    }
    let canceled = api.as_key(&limited, Method::POST, "/v1/workRequests:cancel", r#"{"all": true}"#).await;
    assert_eq!(canceled.json["matched"], 1, "{}", canceled.text);
    let left = api.as_key(&whole, Method::GET, &format!("/v1/workRequests/{other}"), "").await;
    assert_eq!(left.json["status"], "ACCEPTED");
}

#[tokio::test]
async fn a_key_is_shown_once_rotated_and_revoked_and_all_of_it_is_recorded() {
    let api = keyed().await;
    let admin = api.key(Role::Admin, Names::All, Names::All).await;
    let ask =
        r#"{"name": "ci of billing", "role": "operator", "expiresIn": "90d", "by": "anna", "reason": "new pipeline"}"#;
    let made = api.as_key(&admin, Method::POST, "/v1/keys", ask).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json["namespaces"], json!(["default"]));
    let (prefix, first) = (made.json["prefix"].as_str().unwrap(), made.json["key"].as_str().unwrap());
    assert_eq!(api.as_key(first, Method::GET, "/v1/jobs", "").await.status, 200);
    let whoami = api.as_key(first, Method::GET, "/v1/whoami", "").await;
    assert_eq!(
        whoami.json,
        json!({"access": "keys", "prefix": prefix, "name": "ci of billing", "role": "operator", "namespaces": ["default"]})
    );
    for path in ["/v1/keys".to_owned(), format!("/v1/keys/{prefix}"), "/v1/keys?search=billing".to_owned()] {
        let answer = api.as_key(&admin, Method::GET, &path, "").await;
        assert!(answer.text.contains(prefix) && !answer.text.contains(first), "{path} {}", answer.text);
    }
    let rotated = api.as_key(&admin, Method::POST, &format!("/v1/keys/{prefix}:rotate"), r#"{"overlap": "1h"}"#).await;
    let second = rotated.json["key"].as_str().unwrap();
    assert!(rotated.json["previousUntil"].is_string() && second != first);
    for key in [first, second] {
        assert_eq!(api.as_key(key, Method::GET, "/v1/jobs", "").await.status, 200);
    }
    let leaked = api.as_key(&admin, Method::POST, &format!("/v1/keys/{prefix}:rotate"), r#"{"overlap": "0s"}"#).await;
    let third = leaked.json["key"].as_str().unwrap();
    assert_eq!([first, second, third].map(|key| key == third).len(), 3);
    for (key, status) in [(first, 401), (second, 401), (third, 200)] {
        assert_eq!(api.as_key(key, Method::GET, "/v1/jobs", "").await.status, status);
    }
    // What it is used for bears its name.
    let paused =
        api.as_key(third, Method::POST, "/v1/schedules/often:pause", r#"{"by": "bob", "reason": "why not"}"#).await;
    assert_eq!(paused.json["paused"]["by"], format!("bob, ci of billing (key {prefix})"), "{}", paused.text);
    let revoked = api.as_key(&admin, Method::POST, &format!("/v1/keys/{prefix}:revoke"), r#"{"reason": "gone"}"#).await;
    assert_eq!(revoked.json["state"], "revoked");
    assert_eq!(api.as_key(third, Method::GET, "/v1/jobs", "").await.status, 401);
    assert_eq!(api.as_key(&admin, Method::POST, &format!("/v1/keys/{prefix}:rotate"), "").await.status, 409);
    let audit = api.as_key(&admin, Method::GET, "/v1/audit?limit=5", "").await;
    let told: Vec<_> = audit.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            (
                change["kind"].as_str().unwrap(),
                change["action"].as_str().unwrap(),
                change["reason"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("key", "revoked", "gone"),
            ("schedule", "paused", "why not"),
            ("key", "rotated", ""),
            ("key", "rotated", ""),
            ("key", "created", "new pipeline"),
        ]
    );
    assert!(audit.json["items"][4]["by"].as_str().unwrap().starts_with("anna, ci (key "), "{}", audit.text);
    let everywhere = api.as_key(&admin, Method::GET, "/v1/audit?everywhere=true", "").await;
    assert_eq!(everywhere.json["items"][0]["kind"], "key", "the admin's own: {}", everywhere.text);
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let api = keyed().await;
    let mine = api.key(Role::Admin, Names::only(["default"]), Names::All).await;
    for (ask, status) in [
        (json!({"name": "a", "role": "admin"}), 201),
        (json!({"name": "a", "role": "viewer", "jobs": ["hello"]}), 201),
        (json!({"name": "a", "role": "viewer", "namespaces": ["*"]}), 403),
        (json!({"name": "a", "role": "viewer", "namespaces": ["default", "other"]}), 403),
        (json!({"name": "a", "role": "root"}), 422),
        (json!({"name": "", "role": "viewer"}), 422),
        (json!({"role": "viewer"}), 422),
        (json!({"name": "a", "role": "viewer", "namespaces": []}), 422),
        (json!({"name": "a", "role": "viewer", "namespaces": ["Not A Name"]}), 422),
        (json!({"name": "a", "role": "viewer", "expiresAt": "2020-01-01T00:00:00Z"}), 422),
        (json!({"name": "a", "role": "viewer", "expiresAt": "2099-01-01T00:00:00Z", "expiresIn": "1d"}), 422),
        (json!({"name": "a", "role": "viewer", "color": "red"}), 422),
    ] {
        let answer = api.as_key(&mine, Method::POST, "/v1/keys", &ask.to_string()).await;
        assert_eq!(answer.status.as_u16(), status, "{ask} {}", answer.text);
    }
}

#[tokio::test]
async fn callers_do_not_share_idempotency_keys() {
    let api = keyed().await;
    let keys =
        [api.key(Role::Operator, Names::All, Names::All).await, api.key(Role::Operator, Names::All, Names::All).await];
    let mut ids = Vec::new();
    for key in keys.iter().chain(&keys) {
        let headers = [format!("x-api-key: {key}"), "idempotency-key: same".to_owned()];
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let answer = api.call(Method::POST, "/v1/jobs/hello/trigger", &headers, "").await;
        ids.push(answer.json["id"].as_str().unwrap().to_owned());
    }
    assert!(ids[0] == ids[2] && ids[1] == ids[3] && ids[0] != ids[1], "{ids:?}");
}
