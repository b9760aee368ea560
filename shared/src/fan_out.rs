//! Runs that call for others, their children: how many there may be, and what their ends mean for the run.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::json::whole;

/// The most children of one run.
pub const MAX_CHILDREN: u32 = 100_000;
/// The most bytes that the inputs of all children of one run may have as JSON.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How deep runs may be within one another: children of children of children.
pub const MAX_DEPTH: i32 = 3;

/// What failed children mean for the run that has called for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailPolicy {
    /// The first one ends it: no more are made, and the others are canceled.
    Fast,
    /// All of them run; if any has failed, it fails at the end.
    #[default]
    AtEnd,
    /// As many may fail. One more, and it is as with [`FailPolicy::Fast`].
    Tolerate(Tolerance),
}

/// How many children may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// So many.
    Number(u32),
    /// So many of ten thousand, rounded down.
    OfTenThousand(u32),
}

impl Tolerance {
    fn of(self, total: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::OfTenThousand(part) => u32::try_from(u64::from(total) * u64::from(part) / 10_000).unwrap_or(u32::MAX),
        }
    }
}

impl FailPolicy {
    /// How many children of `total` may fail.
    #[must_use]
    pub fn tolerated(self, total: u32) -> u32 {
        match self {
            Self::Fast | Self::AtEnd => 0,
            Self::Tolerate(tolerance) => tolerance.of(total),
        }
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a policy: write \"fast\", \"at_end\", {{\"tolerate\": 3}} or {{\"tolerate\": \"5%\"}}")]
pub struct InvalidPolicy;

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::OfTenThousand(part) if part % 100 == 0 => write!(f, "{}%", part / 100),
            Self::OfTenThousand(part) => {
                write!(f, "{}.{}%", part / 100, format!("{:02}", part % 100).trim_end_matches('0'))
            }
        }
    }
}

impl FromStr for Tolerance {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        let digits = |text: &str, most: usize| {
            let good = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            good.then(|| text.parse::<u32>().ok()).flatten().ok_or(InvalidPolicy)
        };
        let Some(percent) = text.strip_suffix('%') else {
            return digits(text, 6).and_then(Self::number);
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let hundredths = digits(part, 2)? * if part.len() == 1 { 10 } else { 1 };
        let part = digits(whole, 3)? * 100 + hundredths;
        if part <= 10_000 { Ok(Self::OfTenThousand(part)) } else { Err(InvalidPolicy) }
    }
}

impl Tolerance {
    fn number(number: u32) -> Result<Self, InvalidPolicy> {
        if number <= MAX_CHILDREN { Ok(Self::Number(number)) } else { Err(InvalidPolicy) }
    }
}

/// `fast`, `at_end`, `tolerate:3`, `tolerate:5%`: as the store keeps it and the command line takes it.
impl fmt::Display for FailPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast => f.write_str("fast"),
            Self::AtEnd => f.write_str("at_end"),
            Self::Tolerate(tolerance) => write!(f, "tolerate:{tolerance}"),
        }
    }
}

impl FromStr for FailPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        match text {
            "fast" => Ok(Self::Fast),
            "at_end" => Ok(Self::AtEnd),
            _ => Ok(Self::Tolerate(text.strip_prefix("tolerate:").ok_or(InvalidPolicy)?.trim().parse()?)),
        }
    }
}

impl FailPolicy {
    /// The form in JSON: `"fast"`, `"at_end"`, `{"tolerate": 3}` or `{"tolerate": "5%"}`.
    #[must_use]
    pub fn to_json(self) -> Value {
        match self {
            Self::Fast | Self::AtEnd => self.to_string().into(),
            Self::Tolerate(Tolerance::Number(number)) => json!({ "tolerate": number }),
            Self::Tolerate(tolerance) => json!({ "tolerate": tolerance.to_string() }),
        }
    }

    /// Reads that form.
    ///
    /// # Errors
    /// It is another one.
    pub fn from_json(value: &Value) -> Result<Self, InvalidPolicy> {
        let Value::Object(members) = value else {
            let policy = value.as_str().ok_or(InvalidPolicy)?.parse()?;
            return if matches!(policy, Self::Tolerate(_)) { Err(InvalidPolicy) } else { Ok(policy) };
        };
        let tolerance = match members.get("tolerate").filter(|_| members.len() == 1) {
            Some(Value::Number(number)) => {
                Tolerance::number(whole(number).and_then(|n| u32::try_from(n).ok()).ok_or(InvalidPolicy)?)?
            }
            Some(Value::String(text)) if text.ends_with('%') => text.parse()?,
            _ => return Err(InvalidPolicy),
        };
        Ok(Self::Tolerate(tolerance))
    }
}

impl Serialize for FailPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FailPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// How far the children of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// How many there are to be.
    pub total: u32,
    /// How many were made.
    pub born: u32,
    /// How many of these have SUCCEEDED.
    pub succeeded: u32,
    /// How many FAILED.
    pub failed: u32,
    /// How many were CANCELED.
    pub canceled: u32,
}

impl Counts {
    /// How many have ended.
    #[must_use]
    pub const fn ended(&self) -> u32 {
        self.succeeded.saturating_add(self.failed).saturating_add(self.canceled)
    }

    /// How many were made and have not ended.
    #[must_use]
    pub const fn under_way(&self) -> u32 {
        self.born.saturating_sub(self.ended())
    }

    /// How many are still to be made, if that goes on.
    #[must_use]
    pub const fn unborn(&self) -> u32 {
        self.total.saturating_sub(self.born)
    }

    /// How much of it is over, 0 to 100. Never goes down, as no count does.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.ended().min(self.total)) * 100.0 / f64::from(self.total) }
    }
}

/// Why no more children are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// More have failed than may.
    Failed,
    /// Someone has canceled the run.
    Canceled,
}

impl Stop {
    /// The text in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// How a run ends with its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As many have succeeded as had to.
    Succeeded,
    /// They have not.
    Failed,
    /// They were canceled.
    Canceled,
}

/// What is to be done about a run that has children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: some are to be made, or to end.
    GoOn,
    /// No more are made, and those under way are canceled.
    Stop(Stop),
    /// It ends.
    End(End),
}

/// What the counts mean. `stopped`: that was said before. `canceling`: someone has asked for the run to stop.
#[must_use]
pub fn judge(policy: FailPolicy, counts: &Counts, stopped: Option<Stop>, canceling: bool) -> Verdict {
    let too_many = counts.failed > policy.tolerated(counts.total);
    let is_over = counts.under_way() == 0 && (counts.unborn() == 0 || stopped.is_some());
    if !is_over {
        return match (stopped, policy) {
            (Some(_), _) => Verdict::GoOn,
            (None, _) if canceling => Verdict::Stop(Stop::Canceled),
            (None, FailPolicy::Fast | FailPolicy::Tolerate(_)) if too_many => Verdict::Stop(Stop::Failed),
            (None, _) => Verdict::GoOn,
        };
    }
    let was_cut_short = counts.canceled > 0 || counts.unborn() > 0;
    Verdict::End(match stopped {
        Some(Stop::Failed) => End::Failed,
        Some(Stop::Canceled) if was_cut_short => End::Canceled,
        _ if canceling && was_cut_short => End::Canceled,
        _ if too_many => End::Failed,
        // Someone has canceled each one of them.
        _ if counts.succeeded + counts.failed == 0 && counts.canceled > 0 => End::Canceled,
        _ => End::Succeeded,
    })
}
