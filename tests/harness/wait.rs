//! Waiting for a state.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Looks until `look` finds what it looks for; until then it says what it saw instead. A look that hangs
/// counts as one that has found nothing.
///
/// # Errors
/// `limit` ran out: the text names `what` and the last thing seen.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    let mut seen = "nothing yet".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(state)) => seen = state,
            Err(_) => bail!("waited {limit:?} for {what}; the last look gave no answer; before it: {seen}"),
        }
        if Instant::now() + pause >= deadline {
            bail!("waited {limit:?} for {what}; last seen: {seen}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_with_what_was_found() {
        let mut looks = 0;
        let found = eventually("the third look", Duration::from_secs(10), async || {
            looks += 1;
            if looks == 3 { Ok("here") } else { Err(format!("look {looks}")) }
        });
        assert_eq!(found.await.unwrap(), "here");
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    async fn the_error_names_the_last_state_seen() {
        let mut looks = 0;
        let waited = eventually("a miracle", Duration::from_millis(80), async || {
            looks += 1;
            Err::<(), _>(format!("state {looks}"))
        });
        let text = waited.await.unwrap_err().to_string();
        assert!(looks > 3, "only {looks} looks");
        assert_eq!(text, format!("waited 80ms for a miracle; last seen: state {looks}"));
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlast_the_limit() {
        let mut looks = 0;
        let waited = eventually("an answer", Duration::from_millis(80), async || {
            looks += 1;
            if looks == 1 { Err::<(), _>("closed".to_owned()) } else { std::future::pending().await }
        });
        let text = waited.await.unwrap_err().to_string();
        assert_eq!(text, "waited 80ms for an answer; the last look gave no answer; before it: closed");
    }
}
