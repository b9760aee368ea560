//! Where the job's call goes, and what may be sent to another place: nothing of the job's own, unless it is at the same
//! origin.

use reqwest::Url;
use reqwest::header::HeaderMap;
use reveille_shared::definition::HttpCall;

use super::super::{own_headers, permitted, target, with_headers};
use super::{Run, RunFailure};
use crate::handlers::env::Variables;
use crate::handlers::template::Renderer;

/// The longest URL of a callee that is noted.
const LONGEST: usize = 8 * 1024;

/// The URL and the headers of the job's call, rendered anew.
pub(super) struct Place {
    pub(super) url: Url,
    headers: HeaderMap,
    /// For other origins.
    bare: HeaderMap,
}

impl Place {
    pub(super) fn of(call: &HttpCall, run: &Run, variables: &Variables) -> Result<Self, RunFailure> {
        let renderer = Renderer::new(run, variables);
        let bare = own_headers(run);
        Ok(Self {
            url: target(&renderer, &call.url)?,
            headers: with_headers(&renderer, &call.headers, bare.clone())?,
            bare,
        })
    }

    /// The URL that an answer of `from` names. Neither it nor an error that quotes it is shown.
    pub(super) fn resolve(&self, from: &Url, named: &str) -> Result<Url, RunFailure> {
        let wrong = |what: &str| RunFailure::fatal(format!("the callee names {what}")).code("OperationUnknown");
        if named.len() > LONGEST {
            return Err(wrong("a place of more than 8 KiB"));
        }
        let mut url = from.join(named).map_err(|error| wrong(&format!("a place that is no URL: {error}")))?;
        if from.scheme() == "https" && url.scheme() == "http" {
            return Err(wrong("a place by http, and it was asked by https"));
        }
        permitted(&url)?;
        url.set_fragment(None);
        if self.is_at_home(&url) && url.username().is_empty() && url.password().is_none() {
            // They are as good as a header.
            let _can_have_them =
                url.set_username(self.url.username()).and_then(|()| url.set_password(self.url.password()));
        }
        Ok(url)
    }

    /// The headers for a request there.
    pub(super) fn headers_for(&self, url: &Url) -> HeaderMap {
        if self.is_at_home(url) { self.headers.clone() } else { self.bare.clone() }
    }

    fn is_at_home(&self, url: &Url) -> bool {
        url.origin() == self.url.origin()
    }
}
