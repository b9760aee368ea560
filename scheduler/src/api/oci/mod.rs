//! Where Oracle's clients ask after work requests. They differ in the base path, in the shape of lists, and in whether they
//! cancel: `/20160918` is the core, `/20190415` cancels as well, and `/20220504` is how newer services do it.

pub(crate) mod cancel;
mod document;
pub(crate) mod entries;
pub(crate) mod get;
pub(crate) mod list;

use std::str::FromStr;

use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

pub(crate) use self::document::complete;
use super::ApiState;
use super::page::Page;

/// The base path whose operations are documented in the code; the others have the same.
const CORE: &str = "/20160918";
/// Those that cancel, too.
const CANCELING: [&str; 2] = ["/20190415", "/20220504"];
/// The base path whose lists are objects with `items`, and not arrays.
const WITH_ITEMS: &str = "/20220504";

/// The routes of the base paths beside the core.
pub(crate) fn routes() -> Router<ApiState> {
    CANCELING.into_iter().fold(Router::new(), |router, base| {
        router
            .route(&format!("{base}/workRequests"), get(list::list_oci_work_requests))
            .route(
                &format!("{base}/workRequests/{{id}}"),
                get(get::get_oci_work_request).merge(delete(cancel::cancel_oci_work_request)),
            )
            .route(&format!("{base}/workRequests/{{id}}/errors"), get(entries::list_oci_errors))
            .route(&format!("{base}/workRequests/{{id}}/logs"), get(entries::list_oci_logs))
    })
}

/// A page in the shape of the base path that was asked.
fn answer<T: Serialize>(page: Page<T>, uri: &Uri) -> Response {
    let headers = page.headers(uri);
    if uri.path().starts_with(WITH_ITEMS) {
        (headers, Json(json!({"items": page.items}))).into_response()
    } else {
        (headers, Json(page.items)).into_response()
    }
}

/// `ASC` or `DESC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ascending(bool);

impl FromStr for Ascending {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ASC" => Ok(Self(true)),
            "DESC" => Ok(Self(false)),
            _ => Err("not ASC or DESC"),
        }
    }
}
