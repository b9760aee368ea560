//! How many requests callers and namespaces may make in a second, reads and writes apart. Each process counts for itself.
//!
//! - [`bucket`]: the arithmetic.
//! - [`limit`]: every request with a caller passes here.

mod bucket;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use self::bucket::{Bucket, Level, Rate};
use super::ApiState;
use super::access::{Caller, Tenant, is_open};
use super::error::Problem;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// So many callers and namespaces are remembered at once; those whose bucket is full need not be.
const REMEMBERED: usize = 20_000;

/// How many requests of each kind may be made in a second, and at once; zero: any number.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct RateLimits {
    /// Reads that a key may make in a second; 0: any number
    #[arg(long, env = "REVEILLE_KEY_READS", default_value_t = 20_000, value_name = "COUNT")]
    pub key_reads: u32,

    /// Requests that start or change something that a key may make in a second; 0: any number
    #[arg(long, env = "REVEILLE_KEY_WRITES", default_value_t = 10_000, value_name = "COUNT")]
    pub key_writes: u32,

    /// Reads of all keys of a namespace in a second; 0: any number
    #[arg(long, env = "REVEILLE_NAMESPACE_READS", default_value_t = 50_000, value_name = "COUNT")]
    pub namespace_reads: u32,

    /// Requests that start or change something of all keys of a namespace in a second; 0: any number
    #[arg(long, env = "REVEILLE_NAMESPACE_WRITES", default_value_t = 20_000, value_name = "COUNT")]
    pub namespace_writes: u32,
}

impl RateLimits {
    /// No limits.
    pub const NONE: Self = Self { key_reads: 0, key_writes: 0, namespace_reads: 0, namespace_writes: 0 };

    fn rate(&self, who: &Who, kind: Kind) -> Option<Rate> {
        Rate::new(match (who, kind) {
            (Who::Key(_), Kind::Read) => self.key_reads,
            (Who::Key(_), Kind::Write) => self.key_writes,
            (Who::Namespace(_), Kind::Read) => self.namespace_reads,
            (Who::Namespace(_), Kind::Write) => self.namespace_writes,
        })
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Key(String),
    Namespace(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Write,
}

/// What each has left.
#[derive(Debug)]
pub struct Meter {
    limits: RateLimits,
    buckets: Mutex<HashMap<(Who, Kind), Bucket>>,
}

impl Meter {
    /// Nobody has made a request yet.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, buckets: Mutex::default() }
    }

    /// Counts a request of all of these, or of none if one of them has none left. Answers what is left to the one that has
    /// least.
    fn count(&self, whose: Vec<Who>, kind: Kind, now: Instant) -> Option<(Who, Level)> {
        let limited: Vec<_> = whose.into_iter().filter_map(|who| Some((self.limits.rate(&who, kind)?, who))).collect();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let look = |buckets: &HashMap<_, Bucket>, who: &Who, rate: Rate| {
            rate.look(buckets.get(&(who.clone(), kind)).copied(), now)
        };
        let refused = limited.iter().find_map(|(rate, who)| {
            let level = look(&buckets, who, *rate);
            level.wait.is_some().then(|| (who.clone(), level))
        });
        if refused.is_some() {
            return refused;
        }
        if buckets.len() + limited.len() > REMEMBERED {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() + limited.len() > REMEMBERED {
                buckets.clear();
            }
        }
        let mut least: Option<(Who, Level)> = None;
        for (rate, who) in limited {
            let place = (who, kind);
            let taken = rate.take(buckets.get(&place).copied(), now);
            let level = Level { wait: None, ..rate.look(Some(taken), now) };
            if least.as_ref().is_none_or(|(_, least)| level.remaining < least.remaining) {
                least = Some((place.0.clone(), level));
            }
            buckets.insert(place, taken);
        }
        least
    }
}

/// Lets a request through if its caller and its namespace have requests left, and says how many.
pub(crate) async fn limit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let kind = match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => Kind::Read,
        _ => Kind::Write,
    };
    let whose = whose(&request);
    let Some((who, level)) = state.meter.count(whose, kind, Instant::now()) else { return next.run(request).await };
    let mut response = match level.wait {
        None => next.run(request).await,
        Some(wait) => {
            metrics::counter!("reveille_rate_limited_total").increment(1);
            refusal(&who, kind, level, wait)
        }
    };
    tell(response.headers_mut(), level);
    response
}

fn whose(request: &Request) -> Vec<Who> {
    let Some(caller) = request.extensions().get::<Caller>() else { return Vec::new() };
    let key = Who::Key(caller.id().to_owned());
    // Who names no namespace that it may use is refused by the handler.
    let namespace = Tenant::named(caller, request.headers()).ok().map(Who::Namespace);
    std::iter::once(key).chain(namespace).collect()
}

fn refusal(who: &Who, kind: Kind, level: Level, wait: Duration) -> Response {
    let whose = match who {
        Who::Key(_) => "this key's".to_owned(),
        Who::Namespace(name) => format!("all requests of namespace {name}, and this is one of its"),
    };
    let kind = match kind {
        Kind::Read => "reads",
        Kind::Write => "writes",
    };
    let message = format!(
        "too many {kind} in a second: the limit is {}, {whose}; slow down, and wait between tries",
        level.limit
    );
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        .retry_after(seconds(wait).max(1))
        .into_response()
}

fn tell(headers: &mut HeaderMap, level: Level) {
    headers.insert(LIMIT, HeaderValue::from(level.limit));
    headers.insert(REMAINING, HeaderValue::from(level.remaining));
    headers.insert(RESET, HeaderValue::from(seconds(level.reset)));
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(key: u32, namespace: u32) -> Meter {
        let limits = RateLimits { key_reads: key, namespace_reads: namespace, key_writes: 1, namespace_writes: 0 };
        Meter::new(limits)
    }

    fn whose(key: &str, namespace: &str) -> Vec<Who> {
        vec![Who::Key(key.to_owned()), Who::Namespace(namespace.to_owned())]
    }

    #[test]
    fn keys_and_namespaces_are_counted_apart_and_so_are_reads_and_writes() {
        let (meter, now) = (meter(2, 3), Instant::now());
        let left = |key, namespace, kind| {
            let (who, level) = meter.count(whose(key, namespace), kind, now).unwrap();
            (who, level.remaining, level.wait.is_some())
        };
        let key = |name: &str| Who::Key(name.to_owned());
        let namespace = |name: &str| Who::Namespace(name.to_owned());
        assert_eq!(left("a", "n", Kind::Read), (key("a"), 1, false));
        assert_eq!(left("a", "n", Kind::Read), (key("a"), 0, false));
        assert_eq!(left("a", "n", Kind::Read), (key("a"), 0, true));
        assert_eq!(left("a", "n", Kind::Write), (key("a"), 0, false), "writes have a bucket of their own");
        assert_eq!(left("b", "n", Kind::Read), (namespace("n"), 0, false), "what was refused has cost nothing");
        assert_eq!(left("b", "n", Kind::Read), (namespace("n"), 0, true));
        assert_eq!(left("b", "m", Kind::Read), (key("b"), 0, false), "nor has it cost the key");
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let meter = Meter::new(RateLimits::NONE);
        assert!(meter.count(whose("a", "n"), Kind::Read, Instant::now()).is_none());
        assert!(meter.buckets.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_full_buckets_go_first() {
        let (meter, now) = (meter(5, 0), Instant::now());
        for name in 0..REMEMBERED {
            meter.count(whose(&name.to_string(), "n"), Kind::Read, now);
        }
        let later = now + Duration::from_secs(2);
        meter.count(whose("one more", "n"), Kind::Read, later);
        assert_eq!(meter.buckets.lock().unwrap().len(), 1);
    }
}
