//! `GET /errors/{code}`: what an error means and what to do, from `docs/errors.md`.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::Problem;
use crate::api::extract::Segment;

const DOCUMENT: &str = include_str!("../../../../docs/errors.md");

/// What is known of each code.
static PAGES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let sections = DOCUMENT.split("\n## ").skip(1);
    sections.filter_map(|section| section.split_once('\n')).map(|(code, text)| (code, text.trim())).collect()
});

/// The URI that stands for a kind of error: where its page is, if it has one.
pub(super) fn kind(code: &str) -> String {
    if PAGES.contains_key(code) { format!("/errors/{code}") } else { "about:blank".to_owned() }
}

/// The page of a code.
pub(crate) async fn page(Segment(code): Segment) -> Result<Response, Problem> {
    let text = PAGES.get(code.as_str()).ok_or_else(|| Problem::not_found("error", &code))?;
    let paragraphs: String = text.split("\n\n").map(|text| format!("<p>{}</p>\n", escaped(text))).collect();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\n<h1>{code}</h1>\n{paragraphs}</html>\n"
    );
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('`', "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Words in quotes behind what makes a problem, in all files under a folder.
    fn codes(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code_only = text.split("#[cfg(test)]").next().unwrap().to_owned();
                for made in ["Problem::new(", "Self::new(", "gone("] {
                    for call in code_only.split(made).skip(1) {
                        let end = call.find(';').unwrap_or(call.len());
                        let word = call[..end].split('"').nth(1).unwrap_or_default();
                        let is_code = word.starts_with(|c: char| c.is_ascii_uppercase())
                            && word.chars().all(|c| c.is_ascii_alphabetic());
                        if is_code {
                            found.insert(word.to_owned());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_has_its_page_and_is_told_in_order() {
        let mut found = BTreeSet::new();
        codes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
        found.remove("Error");
        assert!(found.len() > 20 && found.contains("NotFound") && found.contains("Marker"), "{found:?}");
        let without: Vec<_> = found.iter().filter(|code| !PAGES.contains_key(code.as_str())).collect();
        assert!(without.is_empty(), "docs/errors.md lacks {without:?}");
        let order: Vec<_> = DOCUMENT.split("\n## ").skip(1).map(|section| section.lines().next().unwrap()).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}
