//! Who asks for something, and why: of all that people change.

use utoipa::ToSchema;

use crate::api::body::{BodyFields, FromBody};

/// Who asks, and why; both may be left out.
#[derive(Debug, Default, ToSchema)]
pub(crate) struct Note {
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("maintenance of the billing database"))]
    pub(crate) reason: Option<String>,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    pub(crate) by: Option<String>,
}

/// Takes who asks.
pub(crate) fn by(body: &mut BodyFields) -> Option<String> {
    body.line("by", 100)
}

/// Takes why.
pub(crate) fn reason(body: &mut BodyFields) -> Option<String> {
    body.line("reason", 500)
}

impl FromBody for Note {
    fn read(body: &mut BodyFields) -> Self {
        Self { reason: reason(body), by: by(body) }
    }
}
