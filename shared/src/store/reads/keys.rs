//! API keys.

/// Implements [`super::super::database::ReadKeys`] for a type with a pool `read`.
macro_rules! impl_read_keys {
    ($database:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadKeys for $database {
            async fn key(&self, prefix: &str) -> Result<Option<ApiKey>> {
                let row: Option<KeyRow> = sqlx::query_as(api_keys!("WHERE prefix = $1"))
                    .bind(prefix)
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read an API key"))?;
                Ok(row.map(ApiKey::from))
            }

            async fn keys(&self, after: &str, part: &str, limit: i64) -> Result<Vec<ApiKey>> {
                let rows: Vec<KeyRow> = sqlx::query_as(api_keys!(
                    "WHERE prefix > $1 AND (replace(prefix, $2, '') <> prefix OR replace(name, $2, '') <> name OR $2 = '')
                     ORDER BY prefix LIMIT $3"
                ))
                .bind(after)
                .bind(part)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("list API keys"))?;
                Ok(rows.into_iter().map(ApiKey::from).collect())
            }
        }
    };
}

/// Implements [`super::super::database::Keys`] for a type with a transaction `tx`; `$for_update` locks a row that was read.
macro_rules! impl_keys {
    ($tx:ty, $for_update:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Keys for $tx {
            async fn lock_key(&mut self, prefix: &str) -> Result<Option<ApiKey>> {
                let row: Option<KeyRow> = sqlx::query_as(concat!(api_keys!("WHERE prefix = $1"), $for_update))
                    .bind(prefix)
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("lock an API key"))?;
                Ok(row.map(ApiKey::from))
            }

            async fn put_key(&mut self, key: &ApiKey) -> Result<()> {
                sqlx::query(
                    "INSERT INTO api_keys (prefix, name, access, hash, previous_hash, previous_until, version, created_at,
                                           created_by, expires_at, revoked_at, last_used_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                     ON CONFLICT (prefix) DO UPDATE SET
                         hash = excluded.hash, previous_hash = excluded.previous_hash,
                         previous_until = excluded.previous_until, version = excluded.version,
                         revoked_at = excluded.revoked_at",
                )
                .bind(&key.prefix)
                .bind(&key.name)
                .bind(Json(&key.grant))
                .bind(&key.hash)
                .bind(&key.previous_hash)
                .bind(key.previous_until.map(At))
                .bind(key.version)
                .bind(At(key.created_at))
                .bind(&key.created_by)
                .bind(key.expires_at.map(At))
                .bind(key.revoked_at.map(At))
                .bind(key.last_used_at.map(At))
                .execute(&mut *self.tx)
                .await
                .map_err(step("keep an API key"))?;
                Ok(())
            }

            async fn key_used(&mut self, prefix: &str, at: Timestamp) -> Result<()> {
                sqlx::query(
                    "UPDATE api_keys SET last_used_at = $2
                     WHERE prefix = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
                )
                .bind(prefix)
                .bind(At(at))
                .execute(&mut *self.tx)
                .await
                .map_err(step("remember the use of an API key"))?;
                Ok(())
            }
        }
    };
}

pub(crate) use {impl_keys, impl_read_keys};
