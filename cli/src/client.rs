//! The REST interface of a scheduler.

use std::error::Error as _;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: a little more than the server takes at most.
const ANSWER: Duration = Duration::from_secs(35);
/// What holds the API key.
const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Items of a page at most.
const PAGE: usize = 1000;

/// Why there is no answer, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers.
    #[error("{server} can't be reached")]
    Unreachable {
        /// Scheme, host and port.
        server: String,
        /// The reason.
        #[source]
        source: reqwest::Error,
    },
    /// The key can't be sent.
    #[error("the API key holds characters that no key has")]
    Key,
    /// The server refused the request or could not serve it.
    #[error("{}", .0.text())]
    Refused(Problem),
    /// Somebody answers, but not as Reveille does.
    #[error("{server} answered {what}")]
    Strange {
        /// Scheme, host and port.
        server: String,
        /// What is strange.
        what: String,
    },
}

/// An error answer (RFC 9457) of the server.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// A stable word.
    #[serde(default)]
    pub(crate) code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<WrongField>,
    /// What this kind of error tells beside.
    #[serde(flatten)]
    pub(crate) members: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct WrongField {
    field: String,
    message: String,
}

impl Problem {
    fn text(&self) -> String {
        match self.errors.as_slice() {
            [] => self.detail.clone(),
            [one] => format!("{}: {}", one.field, one.message),
            all => {
                let lines = all.iter().map(|WrongField { field, message }| format!("\n  {field}: {message}"));
                format!("{} things are wrong with the request:{}", all.len(), lines.collect::<String>())
            }
        }
    }
}

impl ClientError {
    /// Nobody answers: another try may find somebody.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the same request may be served a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => problem.status == 503,
            Self::Strange { .. } | Self::Key => false,
        }
    }

    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if is_untrusted(source) => Some(
                "if the server is the right one, name who vouches for it with --ca-cert FILE or REVEILLE_CA_CERT"
                    .to_owned(),
            ),
            Self::Unreachable { source, .. } if is_plain_text(source) => {
                Some("this server speaks no TLS: begin the URL with http://".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "start a scheduler with `reveille dev`, or name a running one with --server URL or REVEILLE_SERVER"
                    .to_owned(),
            ),
            Self::Refused(problem) if problem.status == 404 && problem.detail.starts_with("there is no path") => {
                Some("the server is older than this program: see `reveille doctor`".to_owned())
            }
            Self::Refused(problem) if problem.status == 401 => Some(
                "give a key as REVEILLE_KEY; the first one is made with `reveille keys create NAME --role admin --everywhere --directly`"
                    .to_owned(),
            ),
            Self::Key => Some("keys look like rvl_PREFIX_SECRET; see REVEILLE_KEY".to_owned()),
            Self::Refused(problem) if problem.status == 404 => {
                Some(
                    "see `reveille jobs`, `reveille schedules` and `reveille runs`; names and ids are needed in full".to_owned(),
                )
            }
            Self::Refused(problem) => match problem.code.as_str() {
                "AlreadyPaused" => Some("end the pause with `reveille resume SCHEDULE`".to_owned()),
                "StateMoved" => Some(
                    "the definitions were changed meanwhile: look at `reveille plan PATH`, then apply again".to_owned(),
                ),
                "BackfillDiffers" => Some("choose another --id, or see `reveille backfill SCHEDULE --list`".to_owned()),
                _ => None,
            },
            Self::Strange { .. } => Some("is this a Reveille scheduler? name it with --server URL".to_owned()),
        }
    }
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The document.
    pub(crate) body: Value,
    /// When to ask again.
    pub(crate) retry_after: Duration,
    server: String,
}

impl Answer {
    /// The document as what it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        read(&self.body, &self.server)
    }
}

fn read<T: DeserializeOwned>(value: &Value, server: &str) -> Result<T, ClientError> {
    T::deserialize(value).map_err(|error| ClientError::Strange {
        server: server.to_owned(),
        what: format!("with a document that this build does not understand: {error}"),
    })
}

/// What a probe answers, whether all is well or not.
#[derive(Debug)]
pub(crate) struct Probed {
    /// The document.
    pub(crate) body: Value,
    /// The server's clock, to the second.
    pub(crate) date: Option<Timestamp>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    /// The items.
    pub(crate) items: Vec<Value>,
    /// Token of the next page, if there is one.
    #[serde(default)]
    pub(crate) next_page: Option<String>,
}

/// Reads `--server`.
pub(crate) fn server(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}: write it like http://127.0.0.1:8080"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("write it like http://127.0.0.1:8080".to_owned());
    }
    Ok(url)
}

/// Who vouches for a server.
#[derive(Debug, Clone)]
pub(crate) struct Authorities(Vec<Certificate>);

/// Reads the file of `--ca-cert`.
pub(crate) fn authorities(file: &str) -> Result<Authorities, String> {
    let pem = std::fs::read(file).map_err(|error| format!("can't read {file}: {error}"))?;
    let read = Certificate::from_pem_bundle(&pem).ok().filter(|read| !read.is_empty());
    read.map(Authorities).ok_or_else(|| format!("{file} is not a PEM file with certificates (BEGIN CERTIFICATE)"))
}

/// Talks to one scheduler.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    namespace: Option<String>,
}

impl Client {
    /// A client of the scheduler at `server`, for one namespace. Without authorities those count whom the system trusts.
    pub(crate) fn new(
        server: Url,
        authorities: Option<Authorities>,
        namespace: Option<String>,
        key: Option<&str>,
    ) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(key).map_err(|_| ClientError::Key)?;
            value.set_sensitive(true);
            headers.insert(KEY, value);
        }
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT).timeout(ANSWER).redirect(Policy::none());
        // A proxy of the environment has its own idea of what 127.0.0.1 is.
        if is_loopback(&server) {
            builder = builder.no_proxy();
        }
        if let Some(Authorities(certificates)) = authorities {
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder
            .default_headers(headers)
            .user_agent(concat!("reveille/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ClientError::Unreachable { server: origin(&server), source })?;
        Ok(Self { http, server, namespace })
    }

    /// Reads a resource.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Answer, ClientError> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// Asks for something to be done.
    pub(crate) async fn post(
        &self,
        path: &[&str],
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.send(request).await
    }

    /// Asks for something to end.
    pub(crate) async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<Answer, ClientError> {
        self.send(self.request(Method::DELETE, path).query(query)).await
    }

    /// Reads a page of a list.
    pub(crate) async fn page(&self, path: &[&str], query: &[(&str, String)]) -> Result<Page, ClientError> {
        self.get(path, query).await?.read()
    }

    /// Reads the first `most` items of a list, over as many pages as it takes.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut page = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (most - items.len()).min(PAGE).to_string()));
            query.extend(page.map(|token| ("page", token)));
            let read = self.page(path, &query).await?;
            let empty = read.items.is_empty();
            items.extend(read.items);
            page = read.next_page;
            if page.is_none() || empty || items.len() >= most {
                return Ok(items);
            }
        }
    }

    /// Reads an item of a list as what it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self, item: &Value) -> Result<T, ClientError> {
        read(item, &origin(&self.server))
    }

    /// Reads what is beside the API, such as `/readyz`. That it says 503 is an answer too.
    pub(crate) async fn probe(&self, name: &str) -> Result<Probed, ClientError> {
        let (status, headers, bytes) = self.answer(self.http.get(self.url(&[name]))).await?;
        let strange = |what| ClientError::Strange { server: self.name(), what };
        if !status.is_success() && status != StatusCode::SERVICE_UNAVAILABLE {
            return Err(strange(status.to_string()));
        }
        let body =
            serde_json::from_slice(&bytes).map_err(|_| strange(format!("{status} with something that is not JSON")))?;
        Ok(Probed { body, date: date(&headers) })
    }

    /// Scheme, host and port of the server.
    pub(crate) fn name(&self) -> String {
        origin(&self.server)
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let path: Vec<&str> = std::iter::once("v1").chain(path.iter().copied()).collect();
        let request = self.http.request(method, self.url(&path));
        match &self.namespace {
            Some(namespace) => request.header("X-Reveille-Namespace", namespace),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let (status, headers, bytes) = self.answer(request).await?;
        let strange = |what| ClientError::Strange { server: self.name(), what };
        if status.is_success() {
            let body = serde_json::from_slice(&bytes)
                .map_err(|_| strange(format!("{status} with something that is not JSON")))?;
            return Ok(Answer { body, retry_after: retry_after(&headers), server: self.name() });
        }
        Err(problem(status, &bytes).map_or_else(|| strange(status.to_string()), ClientError::Refused))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, HeaderMap, Vec<u8>), ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { server: self.name(), source: error.without_url() };
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let bytes = response.bytes().await.map_err(unreachable)?;
        Ok((status, headers, bytes.to_vec()))
    }
}

/// The server's certificate was refused.
fn is_untrusted(error: &reqwest::Error) -> bool {
    innermost(error).contains("certificate")
}

/// What came was no TLS.
fn is_plain_text(error: &reqwest::Error) -> bool {
    innermost(error).contains("InvalidContentType")
}

/// The root cause, as the TLS library tells it in words alone.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map(ToString::to_string).unwrap_or_default()
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn problem(status: StatusCode, bytes: &[u8]) -> Option<Problem> {
    serde_json::from_slice(bytes).ok().filter(|problem: &Problem| problem.status == status.as_u16())
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1).clamp(1, 60))
}

/// Scheme, host and port: never the credentials that a URL may hold.
fn origin(server: &Url) -> String {
    server.origin().ascii_serialization()
}

fn is_loopback(server: &Url) -> bool {
    let host = server.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Client {
        Client::new(server.parse().unwrap(), None, None, None).unwrap()
    }

    fn url(server: &str, path: &[&str]) -> String {
        client(server).request(Method::GET, path).build().unwrap().url().to_string()
    }

    #[test]
    fn names_are_one_segment_of_the_path_whatever_they_hold() {
        assert_eq!(url("http://h:1", &["jobs", "a/b?c#d"]), "http://h:1/v1/jobs/a%2Fb%3Fc%23d");
        assert_eq!(url("http://h:1/under/", &["jobs"]), "http://h:1/under/v1/jobs");
        assert_eq!(url("http://h:1/under?x=1#y", &["jobs"]), "http://h:1/under/v1/jobs");
    }

    #[test]
    fn messages_name_the_server_without_its_password() {
        assert_eq!(origin(&"http://me:secret@host:81/x".parse().unwrap()), "http://host:81");
    }

    #[test]
    fn only_http_urls_are_servers() {
        for bad in ["", "localhost", "localhost:8080", "ftp://host", "http://", "/x"] {
            assert!(server(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(server("https://host").is_ok());
    }

    #[test]
    fn dates_of_headers_are_instants() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(DATE, "Wed, 25 Nov 2026 02:00:00 GMT".parse().unwrap());
        assert_eq!(date(&headers), Some("2026-11-25T02:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_problem_names_every_wrong_field() {
        let text = r#"{"status":422,"detail":"x","errors":[{"field":"a","message":"b"},{"field":"c","message":"d"}]}"#;
        let problem = problem(StatusCode::UNPROCESSABLE_ENTITY, text.as_bytes()).unwrap();
        assert_eq!(problem.text(), "2 things are wrong with the request:\n  a: b\n  c: d");
    }
}
