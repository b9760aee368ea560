//! Who asks for something, and why.

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

impl FromBody for Note {
    fn read(body: &mut BodyFields) -> Self {
        Self { reason: body.line("reason", 500), by: by(body) }
    }
}
