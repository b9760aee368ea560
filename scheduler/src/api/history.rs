//! Who changed a job or a schedule, when and why.

use axum::http::Uri;
use axum::response::Response;
use reveille_shared::definition::{ChangedMember, changed_members};
use reveille_shared::store::{Action, DefinitionKind, RecordedChange, ScheduleKey};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ApiState;
use super::error::Problem;
use super::extract::{Paging, is_name};
use super::hide;
use super::page::{List, Page};
use super::time::Instant;

/// Changes that are read at once when the definition before a page is looked for.
const CHUNK: i64 = 100;

/// A change of a definition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DefinitionChange)]
pub(crate) struct ChangeView {
    /// Orders changes; later ones have higher numbers.
    seq: i64,
    /// The definition's version from then on.
    version: i64,
    /// `created`, `changed`, `removed`, `paused` or `resumed`.
    action: &'static str,
    /// When.
    timestamp: Instant,
    /// Who did it.
    by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What was changed; empty for anything but `changed`.
    changes: Vec<MemberView>,
}

/// A member that has another value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedMember)]
pub(crate) struct MemberView {
    /// Its name.
    member: String,
    /// What it was; absent if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
    /// What it is; absent if it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
}

impl From<ChangedMember> for MemberView {
    fn from(ChangedMember { member, from, to }: ChangedMember) -> Self {
        Self { member, from, to }
    }
}

/// A page of the history of a name.
pub(crate) async fn list(
    state: &ApiState,
    kind: DefinitionKind,
    namespace: String,
    name: String,
    paging: &Paging,
    uri: &Uri,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found(kind.as_str(), &name);
    if !is_name(&name) {
        return Err(unknown());
    }
    let key = ScheduleKey { namespace, name: name.clone() };
    let list = List::of(&("history", kind, &key));
    let place = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
    let before = list.place(paging.page.as_deref(), place)?;
    let mut found = state.store.changes(kind, &key, before.unwrap_or(i64::MAX), i64::from(paging.limit) + 1).await?;
    if found.is_empty() && before.is_none() {
        return Err(unknown());
    }
    let page = Page::cut(found.clone(), paging.limit, &list, |last| last.seq.to_be_bytes().to_vec());
    // What the oldest change of the page has changed stands in one before it.
    while let Some(last) = found.last().filter(|last| last.spec.is_none()) {
        let older = state.store.changes(kind, &key, last.seq, CHUNK).await?;
        if older.is_empty() {
            break;
        }
        found.extend(older);
    }
    let page = page.map(|change| {
        let older = found.iter().filter(|other| other.seq < change.seq).find_map(|other| other.spec.as_ref());
        view(kind, change, older)
    });
    Ok(page.answer(uri))
}

fn view(kind: DefinitionKind, change: RecordedChange, before: Option<&Value>) -> ChangeView {
    let changes = match (change.action, before, &change.spec) {
        (Action::Changed, Some(old), Some(new)) => match kind {
            DefinitionKind::Job => hide::changes_of_job(old, new),
            _ => changed_members(old, new),
        },
        _ => Vec::new(),
    };
    ChangeView {
        seq: change.seq,
        version: change.version,
        action: change.action.as_str(),
        timestamp: change.at.into(),
        by: change.actor,
        reason: change.reason,
        changes: changes.into_iter().map(MemberView::from).collect(),
    }
}
