//! Calls at even distances, whether the ones before have ended or not: a slow answer must not thin out the load.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How many calls, and how far from each other.
pub(crate) struct Pace {
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
}

impl Pace {
    /// Makes each call, which is told when it was due. Answers come in no particular order.
    ///
    /// # Errors
    /// The first call that fails ends the others.
    pub(crate) async fn keep<T, F>(&self, mut call: impl FnMut(Instant) -> F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let start = Instant::now();
        let mut calls = JoinSet::new();
        for number in 0..self.rate * self.seconds {
            let due = start + Duration::from_secs(1) * number / self.rate;
            sleep_until(due).await;
            calls.spawn(call(due));
        }
        let mut answers = Vec::new();
        while let Some(answer) = calls.join_next().await {
            answers.push(answer??);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_does_not_hold_up_the_next() {
        let begun = Instant::now();
        let answers = Pace { rate: 4, seconds: 2 }
            .keep(|due| async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Ok(due.duration_since(begun).as_millis())
            })
            .await
            .unwrap();
        assert_eq!(answers, [0, 250, 500, 750, 1000, 1250, 1500, 1750]);
        assert_eq!(begun.elapsed().as_millis(), 6750);
    }
}
