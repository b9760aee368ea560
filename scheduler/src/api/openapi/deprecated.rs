//! Operations that are to go: to name one in [`DEPRECATED`] writes it into the document and lets each of its answers say so, by
//! RFC 9745 and RFC 8594. One that is gone before its sunset breaks the contract.

use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::header::LINK;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::allowed::is_of;

/// The operations that are to go.
pub(super) static DEPRECATED: LazyLock<Arc<[Deprecated]>> = LazyLock::new(|| [].into());

/// An operation that is to go.
#[derive(Debug, Clone)]
pub(super) struct Deprecated {
    pub(super) method: Method,
    /// As in the document; a path in others' dialects that has no place there can't be named.
    pub(super) path: &'static str,
    pub(super) since: Timestamp,
    /// When it may be gone, if that is known.
    pub(super) sunset: Option<Timestamp>,
    /// Where it stands what to use instead.
    pub(super) page: Option<&'static str>,
}

impl Deprecated {
    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let since = Some((HeaderName::from_static("deprecation"), format!("@{}", self.since.as_second())));
        let date = |at: &Timestamp| DateTimePrinter::new().timestamp_to_rfc9110_string(at).ok();
        let sunset = self.sunset.as_ref().and_then(date).map(|date| (HeaderName::from_static("sunset"), date));
        let page = self.page.map(|page| (LINK, format!("<{page}>; rel=\"deprecation\"; type=\"text/html\"")));
        let headers = [since, sunset, page].into_iter().flatten();
        headers.filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?)))
    }
}

/// Lets answers of operations that are to go say so.
pub(super) async fn tell(State(marked): State<Arc<[Deprecated]>>, request: Request, next: Next) -> Response {
    let is_meant = |one: &&Deprecated| {
        let reads = one.method == Method::GET && request.method() == Method::HEAD;
        (one.method == *request.method() || reads) && is_of(one.path, request.uri().path())
    };
    let found = marked.iter().find(is_meant).cloned();
    let mut response = next.run(request).await;
    for (name, value) in found.iter().flat_map(Deprecated::headers) {
        // Pages of lists have links of their own.
        response.headers_mut().append(name, value);
    }
    response
}

/// Writes them into the document.
pub(super) fn complete(document: &mut Value, marked: &[Deprecated]) {
    for one in marked {
        let operation = &mut document["paths"][one.path][one.method.as_str().to_lowercase()];
        operation["deprecated"] = json!(true);
        operation["x-reveille-deprecated-since"] = json!(one.since.to_string());
        if let Some(sunset) = one.sunset {
            operation["x-reveille-sunset"] = json!(sunset.to_string());
        }
        for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
            for (name, _) in one.headers().filter(|(name, _)| name != LINK) {
                let description = "When it was deprecated (RFC 9745), and when it may be gone (RFC 8594)";
                response["headers"][name.as_str()] = json!({"schema": {"type": "string"}, "description": description});
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn marked() -> Arc<[Deprecated]> {
        let (path, at) = ("/v1/old/{id}", |text: &str| text.parse().unwrap());
        let (since, sunset) = (at("2026-01-01T00:00:00Z"), Some(at("2027-06-30T23:59:59Z")));
        [Deprecated { method: Method::GET, path, since, sunset, page: Some("/errors/Gone") }].into()
    }

    #[tokio::test]
    async fn what_is_to_go_says_so_and_nothing_else_does() {
        let answer = async || ([(LINK, "</v1/old/b>; rel=\"next\"")], "old");
        let routes = Router::new().route("/v1/old/{id}", get(answer).post(answer)).route("/v1/new", get(answer));
        let routes = routes.layer(from_fn_with_state(marked(), tell));
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let headers = routes.clone().oneshot(request).await.unwrap().headers().clone();
            ["deprecation", "sunset", "link"].map(|name| {
                let texts = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
                texts.collect::<Vec<_>>().join(", ")
            })
        };
        let next = "</v1/old/b>; rel=\"next\"";
        let link = format!("{next}, </errors/Gone>; rel=\"deprecation\"; type=\"text/html\"");
        for method in ["GET", "HEAD"] {
            let told = ask(method, "/v1/old/a").await;
            assert_eq!(told, ["@1767225600", "Wed, 30 Jun 2027 23:59:59 GMT", &link], "{method}");
        }
        for (method, path) in [("POST", "/v1/old/a"), ("GET", "/v1/new"), ("GET", "/v1/old/a:verb")] {
            assert_eq!(ask(method, path).await, ["", "", next], "{method} {path}");
        }
    }

    #[test]
    fn the_document_tells_it() {
        let mut document = json!({"paths": {"/v1/old/{id}": {"get": {"responses": {"200": {}}}}}});
        complete(&mut document, &marked());
        let operation = &document["paths"]["/v1/old/{id}"]["get"];
        assert_eq!(
            (&operation["deprecated"], &operation["x-reveille-sunset"]),
            (&json!(true), &json!("2027-06-30T23:59:59Z"))
        );
        let headers: Vec<_> = operation["responses"]["200"]["headers"].as_object().unwrap().keys().collect();
        assert_eq!(headers, ["deprecation", "sunset"]);
    }

    #[test]
    fn what_is_named_is_there() {
        let document: Value = serde_json::from_str(&super::super::tests::document()).unwrap();
        for one in DEPRECATED.iter() {
            let operation = &document["paths"][one.path][one.method.as_str().to_lowercase()];
            assert!(operation["operationId"].is_string(), "{one:?}");
        }
    }
}
