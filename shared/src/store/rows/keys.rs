//! Rows of API keys.

use sqlx::FromRow;
use sqlx::types::Json;

use super::At;
use crate::access::Grant;
use crate::store::keys::ApiKey;

#[derive(FromRow)]
pub(crate) struct KeyRow {
    prefix: String,
    name: String,
    access: Json<Grant>,
    hash: String,
    previous_hash: Option<String>,
    previous_until: Option<At>,
    version: i64,
    created_at: At,
    created_by: String,
    expires_at: Option<At>,
    revoked_at: Option<At>,
    last_used_at: Option<At>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        let at = |at: Option<At>| at.map(|At(at)| at);
        Self {
            prefix: row.prefix,
            name: row.name,
            grant: row.access.0,
            version: row.version,
            created_at: row.created_at.0,
            created_by: row.created_by,
            expires_at: at(row.expires_at),
            revoked_at: at(row.revoked_at),
            last_used_at: at(row.last_used_at),
            previous_until: at(row.previous_until),
            hash: row.hash,
            previous_hash: row.previous_hash,
        }
    }
}
