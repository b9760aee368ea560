//! Who wrote what under which generation: triggers in the drill's own database keep it, in the order in which the
//! writers had the leader's row.
//!
//! Whoever takes leadership changes that row, and every leader's write has it locked until it commits. So the numbers
//! that the triggers draw meanwhile tell the true order of what was committed. A write that came too late to change
//! a row counts as well: its generation should have been refused before.

use anyhow::{Context as _, Result, ensure};
use sqlx::PgConnection;

const SET_UP: &str = "
CREATE TABLE drill_witness (
    n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what       text   NOT NULL,
    generation bigint NOT NULL,
    process    text   NOT NULL
);
CREATE FUNCTION drill_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'leader' THEN
        INSERT INTO drill_witness (what, generation, process)
        VALUES ('leads', NEW.generation, current_setting('application_name'));
    ELSE
        INSERT INTO drill_witness (what, generation, process)
        SELECT 'writes', generation, current_setting('application_name') FROM leader;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER drill_leads AFTER UPDATE ON leader FOR EACH ROW
    WHEN (NEW.generation <> OLD.generation) EXECUTE FUNCTION drill_witness();
CREATE TRIGGER drill_decides AFTER INSERT ON fires FOR EACH STATEMENT EXECUTE FUNCTION drill_witness();
CREATE TRIGGER drill_moves AFTER UPDATE ON schedules FOR EACH STATEMENT EXECUTE FUNCTION drill_witness();
";

/// What was seen.
#[derive(Debug)]
pub(crate) struct Testimony {
    /// Changes of leadership.
    pub(crate) generations: i64,
    /// Statements that record decisions or move cursors.
    pub(crate) writes: i64,
}

/// Begins to watch. The schema must be there, and no scheduler yet.
pub(crate) async fn set_up(database: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(SET_UP).execute(database).await.context("setting up the witness")?;
    Ok(())
}

/// No write under an old generation after a newer one began, and none by a process that had not taken it.
pub(crate) async fn check(database: &mut PgConnection) -> Result<Testimony> {
    let backwards: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "SELECT n, generation, newest, process FROM (
             SELECT *, max(generation) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS newest FROM drill_witness
         ) seen WHERE generation < newest ORDER BY n LIMIT 10",
    )
    .fetch_all(&mut *database)
    .await?;
    ensure!(
        backwards.is_empty(),
        "writes under a generation that was no longer the newest (number, its generation, the newest, process): \
         {backwards:?}"
    );
    let foreign: Vec<(i64, i64, String, Option<String>)> = sqlx::query_as(
        "SELECT w.n, w.generation, w.process, l.process FROM drill_witness w
         LEFT JOIN drill_witness l ON l.what = 'leads' AND l.generation = w.generation
         WHERE w.what = 'writes' AND w.process IS DISTINCT FROM l.process ORDER BY w.n LIMIT 10",
    )
    .fetch_all(&mut *database)
    .await?;
    ensure!(
        foreign.is_empty(),
        "writes by a process that did not lead (number, generation, writer, leader): {foreign:?}"
    );
    let (generations, writes) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE what = 'leads'), count(*) FILTER (WHERE what = 'writes') FROM drill_witness",
    )
    .fetch_one(&mut *database)
    .await?;
    Ok(Testimony { generations, writes })
}
