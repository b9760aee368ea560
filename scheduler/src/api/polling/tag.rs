//! Conditional requests (RFC 9110, section 13): what a caller has seen is not sent again.

use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::api::error::Problem;

/// A JSON document with its tag: a hash of its text, so that whatever is visible changes it.
#[derive(Debug)]
pub(crate) struct Tagged {
    text: Vec<u8>,
    tag: HeaderValue,
}

impl Tagged {
    /// Writes a document.
    pub(crate) fn new(document: &impl Serialize) -> Self {
        let text = serde_json::to_vec(document).expect("a view of strings, numbers and JSON has a JSON form");
        let tag = format!("\"{}\"", &blake3::hash(&text).to_hex()[..32]);
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are a header value");
        Self { text, tag }
    }

    /// Whether the caller says that it has another one, or none, or says nothing.
    pub(crate) fn is_news(&self, asked: &HeaderMap) -> bool {
        !is_among(asked, &IF_NONE_MATCH, &self.tag)
    }

    /// Refuses a request that is meant for another state of the document.
    ///
    /// # Errors
    /// 412: there is an `If-Match`, and this one is not in it.
    pub(crate) fn must_match(&self, asked: &HeaderMap) -> Result<(), Problem> {
        if !asked.contains_key(IF_MATCH) || is_among(asked, &IF_MATCH, &self.tag) {
            return Ok(());
        }
        let message = "it has changed since: get it again";
        Err(Problem::new(StatusCode::PRECONDITION_FAILED, "NoEtagMatch", message))
    }

    /// The document, or 304 if the caller has it.
    pub(crate) fn answer(self, asked: &HeaderMap, mut headers: HeaderMap) -> Response {
        let is_news = self.is_news(asked);
        headers.insert(ETAG, self.tag);
        if !is_news {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (headers, self.text).into_response()
    }
}

/// Whether a list of tags has this one. Weak ones count: the hash is of the whole text.
fn is_among(asked: &HeaderMap, header: &HeaderName, tag: &HeaderValue) -> bool {
    let lists = asked.get_all(header).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(header: HeaderName, value: &str) -> HeaderMap {
        [(header, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        let document = Tagged::new(&"text");
        let tag = document.tag.to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            assert!(!document.is_news(&asked(IF_NONE_MATCH, &known)), "{known}");
            assert!(document.must_match(&asked(IF_MATCH, &known)).is_ok(), "{known}");
        }
        for other in ["\"x\"", "", "x", tag.trim_matches('"')] {
            assert!(document.is_news(&asked(IF_NONE_MATCH, other)), "{other}");
            assert!(document.must_match(&asked(IF_MATCH, other)).is_err(), "{other}");
        }
        assert!(document.is_news(&HeaderMap::new()) && document.must_match(&HeaderMap::new()).is_ok());
        assert_ne!(tag, Tagged::new(&"other").tag);
    }
}
