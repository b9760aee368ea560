//! The dashboard: one page over the public API, embedded in the binary. See `ui/`.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::api::ApiState;

/// One embedded file.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 8] = [
    Asset { path: "/", media_type: "text/html; charset=utf-8", content: include_str!("../../ui/index.html") },
    Asset { path: "/ui/style.css", media_type: "text/css; charset=utf-8", content: include_str!("../../ui/style.css") },
    script("/ui/app.js", include_str!("../../ui/app.js")),
    script("/ui/api.js", include_str!("../../ui/api.js")),
    script("/ui/dom.js", include_str!("../../ui/dom.js")),
    script("/ui/key.js", include_str!("../../ui/key.js")),
    script("/ui/run.js", include_str!("../../ui/run.js")),
    script("/ui/schedule.js", include_str!("../../ui/schedule.js")),
];

const fn script(path: &'static str, content: &'static str) -> Asset {
    Asset { path, media_type: "text/javascript; charset=utf-8", content }
}

/// Nothing but the page's own files, and no other page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its files.
pub(crate) fn routes() -> Router<ApiState> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let etag = format!("\"{}\"", &blake3::hash(asset.content.as_bytes()).to_hex()[..16]);
        router.route(
            asset.path,
            get(async move |State(_): State<ApiState>, headers: HeaderMap| serve(asset, &etag, &headers)),
        )
    })
}

fn serve(asset: &Asset, etag: &str, request: &HeaderMap) -> Response {
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // `no-cache` lets browsers keep the file but ask each time, so that an upgrade shows at once.
    let headers = [(ETAG, etag), (CACHE_CONTROL, "no-cache"), (CONTENT_SECURITY_POLICY, POLICY)];
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, asset.media_type)], asset.content).into_response()
}
