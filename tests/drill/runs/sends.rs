//! When triggers of a job with a rate were sent: a database trigger keeps it in the drill's own database, as no history tells
//! of it, and by the clock of that moment.

use anyhow::{Context as _, Result};
use sqlx::PgConnection;
use uuid::Uuid;

/// What is sent again under the same number is no other start.
const SET_UP: &str = "
CREATE TABLE drill_sends (
    id     uuid        NOT NULL,
    number integer     NOT NULL,
    at     timestamptz NOT NULL,
    PRIMARY KEY (id, number)
);
CREATE FUNCTION drill_send() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drill_sends VALUES (NEW.id, NEW.sends, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER drill_born AFTER INSERT ON deliveries FOR EACH ROW
    WHEN (NEW.rate_key IS NOT NULL AND NEW.phase = 'sent') EXECUTE FUNCTION drill_send();
CREATE TRIGGER drill_sent AFTER UPDATE ON deliveries FOR EACH ROW
    WHEN (NEW.rate_key IS NOT NULL AND NEW.phase = 'sent' AND NEW.sends <> OLD.sends) EXECUTE FUNCTION drill_send();
";

/// A trigger that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Send {
    pub(crate) id: Uuid,
    /// Unix microseconds, by the database's clock.
    pub(crate) at_us: i64,
}

/// Begins to watch, before any run with a rate is accepted.
pub(crate) async fn watch(database: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(SET_UP).execute(database).await.context("beginning to watch what is sent")?;
    Ok(())
}

/// All of them, in the order of their time.
pub(crate) async fn all(database: &mut PgConnection) -> Result<Vec<Send>> {
    let sends =
        "SELECT id, (extract(epoch FROM at) * 1000000)::bigint AS at_us FROM drill_sends ORDER BY at, id, number";
    Ok(sqlx::query_as(sends).fetch_all(database).await?)
}
