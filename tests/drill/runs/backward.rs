//! What may only grow, and has become less: a database trigger keeps it in the drill's own database, as no history tells of it.

use anyhow::{Context as _, Result};
use sqlx::PgConnection;
use uuid::Uuid;

const SET_UP: &str = "
CREATE TABLE drill_backward (
    id   uuid NOT NULL,
    what text NOT NULL
);
CREATE FUNCTION drill_backward_percent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drill_backward VALUES (NEW.id, 'from ' || OLD.percent || ' to ' || NEW.percent || ' percent');
    RETURN NULL;
END $$;
CREATE TRIGGER drill_percent AFTER UPDATE ON work_requests FOR EACH ROW
    WHEN (NEW.percent < OLD.percent) EXECUTE FUNCTION drill_backward_percent();
CREATE FUNCTION drill_backward_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drill_backward VALUES (NEW.parent, 'children ' || OLD::text || ' became ' || NEW::text);
    RETURN NULL;
END $$;
CREATE TRIGGER drill_count AFTER UPDATE ON fan_outs FOR EACH ROW
    WHEN (NEW.total <> OLD.total OR NEW.born < OLD.born OR NEW.succeeded < OLD.succeeded OR NEW.failed < OLD.failed
          OR NEW.canceled < OLD.canceled OR NEW.stopped IS DISTINCT FROM OLD.stopped AND OLD.stopped IS NOT NULL)
    EXECUTE FUNCTION drill_backward_count();
";

/// Begins to watch.
pub(crate) async fn watch(database: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(SET_UP).execute(database).await.context("beginning to watch what may only grow")?;
    Ok(())
}

/// Of which run what has become less.
pub(crate) async fn all(database: &mut PgConnection) -> Result<Vec<(Uuid, String)>> {
    Ok(sqlx::query_as("SELECT id, what FROM drill_backward ORDER BY id").fetch_all(database).await?)
}
