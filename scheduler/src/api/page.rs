//! Keyset pages: an opaque token says where the last page ended, and of which list.
//!
//! A token is the hexadecimal form of a short hash over (list, filter, place) and the place itself. The hash makes a
//! garbled token, or one of another list or filter, a clear error instead of a strange page. It is no secret.

use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Fault, Problem};

/// Items of a page unless the caller says otherwise.
pub(crate) const DEFAULT_LIMIT: u16 = 50;
/// Items of a page at most.
pub(crate) const MAX_LIMIT: u16 = 1000;

const NEXT_PAGE: HeaderName = HeaderName::from_static("opc-next-page");
const HASH: usize = 8;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// Send it as `page`, all else unchanged, for what follows; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_page: Option<String>,
}

/// Which list is paged: the resource and everything that filters it. Its text must be the same for all of its pages.
#[derive(Debug)]
pub(crate) struct List(String);

impl List {
    /// A list named by `parts`.
    pub(crate) fn of(parts: &impl std::fmt::Debug) -> Self {
        Self(format!("{parts:?}"))
    }

    fn hash(&self, place: &[u8]) -> [u8; HASH] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.0.len() as u64).to_le_bytes()).update(self.0.as_bytes()).update(place);
        let mut short = [0; HASH];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..HASH]);
        short
    }

    /// The token for what follows `place`.
    pub(crate) fn token(&self, place: &[u8]) -> String {
        self.hash(place).iter().chain(place).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The place in a token of this list, or none if there is no token.
    ///
    /// # Errors
    /// 400: the token is garbled or of another list.
    pub(crate) fn place<T>(
        &self,
        token: Option<&str>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.place_of("page", token, read)
    }

    /// The same of a parameter that has another name.
    pub(crate) fn place_of<T>(
        &self,
        parameter: &str,
        token: Option<&str>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(token) = token else { return Ok(None) };
        let place = unhex(token).filter(|bytes| bytes.len() >= HASH && bytes[..HASH] == self.hash(&bytes[HASH..]));
        place.and_then(|bytes| read(&bytes[HASH..])).map(Some).ok_or_else(|| {
            let message = "not a page of this list: use what the page before names as the next, with the same filters";
            let fault = Fault { field: parameter.to_owned(), message: message.to_owned() };
            Problem::invalid(StatusCode::BAD_REQUEST, vec![fault])
        })
    }
}

impl<T> Page<T> {
    /// Cuts what was read with one item more than `limit` to a page; `place` says where an item stands.
    pub(crate) fn cut(mut items: Vec<T>, limit: u16, list: &List, place: impl FnOnce(&T) -> Vec<u8>) -> Self {
        let limit = usize::from(limit);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_page = items.last().filter(|_| more).map(|last| list.token(&place(last)));
        Self { items, next_page }
    }

    /// The same page with other items.
    pub(crate) fn map<U>(self, view: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(view).collect(), next_page: self.next_page }
    }
}

impl<T> Page<T> {
    /// The headers that name the next page, of an answer to a request for `uri`.
    pub(crate) fn headers(&self, uri: &Uri) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.next_page
            && let Ok(value) = HeaderValue::from_str(token)
        {
            headers.insert(NEXT_PAGE, value);
            let others = uri.query().unwrap_or("").split('&').filter(|p| !p.is_empty() && !p.starts_with("page="));
            let query: Vec<_> = others.map(str::to_owned).chain([format!("page={token}")]).collect();
            if let Ok(link) = HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))) {
                headers.insert(LINK, link);
            }
        }
        headers
    }
}

impl<T: Serialize> Page<T> {
    /// The answer to a request for `uri`.
    pub(crate) fn answer(self, uri: &Uri) -> Response {
        (self.headers(uri), Json(self)).into_response()
    }
}

/// Reads a place that is a name.
pub(crate) fn name(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Reads a place that is an id.
pub(crate) fn id(bytes: &[u8]) -> Option<uuid::Uuid> {
    uuid::Uuid::from_slice(bytes).ok()
}

/// Reads a place that is one number.
pub(crate) fn number(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_be_bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 512 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(list: &List, token: &str) -> Option<Vec<u8>> {
        list.place(Some(token), |bytes| Some(bytes.to_vec())).ok().flatten()
    }

    #[test]
    fn a_token_is_good_only_for_its_own_list() {
        let (mine, other) = (List::of(&("jobs", "a")), List::of(&("jobs", "b")));
        let token = mine.token(b"place");
        assert_eq!(place(&mine, &token).as_deref(), Some(&b"place"[..]));
        assert_eq!(place(&other, &token), None);
    }

    #[test]
    fn a_garbled_token_is_refused() {
        let list = List::of(&"jobs");
        let token = list.token(b"place");
        for bad in ["", "x", "zz", "00", &token[1..], &token[2..], &format!("{token}00"), "é", "0é0", &"0".repeat(9999)]
        {
            assert_eq!(place(&list, bad), None, "{bad:?} was accepted");
        }
    }

    #[test]
    fn only_a_page_with_more_behind_it_names_the_next() {
        let list = List::of(&"numbers");
        let cut = |count: u8| Page::cut((0..count).collect(), 3, &list, |last| vec![*last]);
        assert_eq!((cut(3).items.len(), cut(3).next_page), (3, None));
        assert_eq!((cut(4).items, cut(4).next_page), (vec![0, 1, 2], Some(list.token(&[2]))));
    }
}
