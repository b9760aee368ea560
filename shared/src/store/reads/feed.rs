//! Single statements about what happens, for all who listen.

/// Entries that leave a run's status as it was: those without [`crate::work_request::Happening::status`].
macro_rules! without_status {
    () => {
        "('held', 'admitted', 'returned', 'resent', 'parked')"
    };
}

/// Implements [`super::super::database::ReadFeed`] for a type with a pool `read`; `$beside` looks up what a row names.
macro_rules! impl_read_feed {
    ($database:ty, $beside:ident) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadFeed for $database {
            async fn feed(&self, after: i64, until: i64, limit: i64) -> Result<FeedPage> {
                let rows: Vec<FeedRow> = sqlx::query_as(concat!(
                    "SELECT s.feed_floor AS floor, o.number, o.work_request_id AS id, o.seq, w.namespace, w.job, w.schedule,
                            w.parent, e.at, e.what,
                            CASE WHEN e.what ->> 'type' IN ",
                    without_status!(),
                    " THEN (SELECT p.what FROM events p
                            WHERE p.work_request_id = o.work_request_id AND p.seq < o.seq AND p.what ->> 'type' NOT IN ",
                    without_status!(),
                    " ORDER BY p.seq DESC LIMIT 1) END AS before
                     FROM schema_info s
                     LEFT JOIN (SELECT number, work_request_id, seq FROM feed
                                WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3) AS o ON true",
                    $crate::store::reads::$beside!(entry),
                    $crate::store::reads::$beside!(run),
                    " ORDER BY o.number",
                ))
                .bind(after)
                .bind(until)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read what happens"))?;
                rows.try_into()
            }

            async fn feed_bounds(&self) -> Result<(i64, i64)> {
                sqlx::query_as("SELECT feed_floor, coalesce((SELECT max(number) FROM feed), 0) FROM schema_info")
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("look how far back what happens is known"))
            }
        }
    };
}

/// Implements [`super::super::database::Feed`] for a type with a transaction `tx` and an instant `now`.
macro_rules! impl_feed {
    ($tx:ty, $beside:ident) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Feed for $tx {
            async fn hear_feed(&mut self) -> Result<bool> {
                sqlx::query_scalar("UPDATE schema_info SET feed_heard_at = $1 RETURNING feed_open")
                    .bind(At(self.now))
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("say that somebody listens"))
            }

            async fn skip_feed_number(&mut self) -> Result<i64> {
                let number: i64 =
                    sqlx::query_scalar("INSERT INTO feed (work_request_id, seq) VALUES ($1, 0) RETURNING number")
                        .bind(Uuid::nil())
                        .fetch_one(&mut *self.tx)
                        .await
                        .map_err(step("skip a number"))?;
                sqlx::query("DELETE FROM feed WHERE number = $1")
                    .bind(number)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("skip a number"))?;
                Ok(number)
            }

            async fn open_feed(&mut self, floor: i64) -> Result<()> {
                sqlx::query("UPDATE schema_info SET feed_open = true, feed_floor = $1")
                    .bind(floor)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("begin to number what happens"))?;
                Ok(())
            }

            async fn close_feed(&mut self, before: Timestamp) -> Result<()> {
                sqlx::query("UPDATE schema_info SET feed_open = false WHERE feed_open AND feed_heard_at < $1")
                    .bind(At(before))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("number no more what happens"))?;
                Ok(())
            }

            async fn trim_feed(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
                let last: Option<i64> = sqlx::query_scalar(concat!(
                    "SELECT max(o.number)
                     FROM (SELECT number, work_request_id, seq FROM feed ORDER BY number LIMIT $2) AS o",
                    $crate::store::reads::$beside!(entry),
                    " WHERE e.at IS NULL OR e.at < $1",
                ))
                .bind(At(before))
                .bind(limit)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("look for what happened long ago"))?;
                let Some(last) = last else { return Ok(0) };
                // Who reads sees both or neither.
                sqlx::query("UPDATE schema_info SET feed_floor = $1 WHERE feed_floor < $1")
                    .bind(last)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("forget what happened long ago"))?;
                let trimmed = sqlx::query("DELETE FROM feed WHERE number <= $1")
                    .bind(last)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("forget what happened long ago"))?;
                Ok(trimmed.rows_affected())
            }
        }
    };
}

pub(crate) use {impl_feed, impl_read_feed, without_status};

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use crate::work_request::{Happening, RunError};

    #[test]
    fn the_database_knows_which_entries_tell_a_status() {
        let (at, token, reason) = (Timestamp::UNIX_EPOCH, Uuid::nil(), String::new);
        let error = RunError::new("C", "m");
        let all = [
            Happening::Accepted { by: reason().into() },
            Happening::Held { reason: reason() },
            Happening::Admitted,
            Happening::Started { attempt: 1, worker: token },
            Happening::AttemptFailed { attempt: 1, token: None, error: error.clone(), retry_at: at },
            Happening::Released { attempt: 1, token, doubt: false },
            Happening::Deferred { attempt: 1, token, reason: reason(), retry_at: at },
            Happening::Parked { attempt: 1, token: None, reason: None, poll_at: at },
            Happening::Split { attempt: 1, token: None, children: 1 },
            Happening::CancelRequested { by: reason().into() },
            Happening::Returned { reason: reason() },
            Happening::Resent,
            Happening::Succeeded { attempt: 1, token: None, verified: false },
            Happening::Failed { attempt: 1, token: None, error },
            Happening::Canceled { attempt: 1, token: None, by: None },
        ];
        for what in all {
            let name = serde_json::to_value(&what).unwrap()["type"].as_str().unwrap().to_owned();
            assert_eq!(without_status!().contains(&format!("'{name}'")), what.status().is_none(), "{name}");
        }
    }
}
