//! Measured figures, and what is asked of them.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

use std::time::Duration;

use anyhow::{Result, ensure};

/// Figures in order; at least one.
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut figures: Vec<_> = figures.into_iter().collect();
        ensure!(!figures.is_empty(), "nothing was measured");
        figures.sort_by(f64::total_cmp);
        Ok(Self(figures))
    }

    /// The smallest figure that this part of all does not exceed.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let rank = (self.0.len() as f64 * part).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let sample = Sample::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| sample.at(part)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(Sample::of([7.0]).unwrap().at(0.5), 7.0);
        assert!(Sample::of([]).is_err());
    }
}
