//! Cron text → pattern, or which field is at fault and what it may hold.

use std::ops::Range;

use super::pattern::{Days, FIRST_YEAR, LAST_YEAR, Pattern, Years};
use super::{InvalidTiming, quoted};

/// What one field of a cron text may hold.
struct Field {
    name: &'static str,
    lowest: u16,
    highest: u16,
    /// Words for the values from `lowest` on.
    words: &'static [&'static str],
    values: &'static str,
}

const SECOND: Field = Field { name: "second", lowest: 0, highest: 59, words: &[], values: "0 to 59" };
const MINUTE: Field = Field { name: "minute", lowest: 0, highest: 59, words: &[], values: "0 to 59" };
const HOUR: Field = Field { name: "hour", lowest: 0, highest: 23, words: &[], values: "0 to 23" };
const DAY_OF_MONTH: Field =
    Field { name: "day-of-month", lowest: 1, highest: 31, words: &[], values: "1 to 31, L, LW, 15W, ?" };
const MONTH: Field = Field {
    name: "month",
    lowest: 1,
    highest: 12,
    words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    values: "1 to 12, JAN to DEC",
};
const DAY_OF_WEEK: Field = Field {
    name: "day-of-week",
    lowest: 0,
    highest: 7,
    words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    values: "0 to 7 (0 and 7 are Sunday), SUN to SAT, FRI#2, FRIL, ?",
};
const YEAR: Field = Field {
    name: "year",
    lowest: FIRST_YEAR.unsigned_abs(),
    highest: LAST_YEAR.unsigned_abs(),
    words: &[],
    values: "1970 to 2099",
};

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A field's text and where it stands.
pub(super) struct Source<'t> {
    pub(super) text: &'t str,
    range: Range<usize>,
}

/// The texts of all fields. Those of a nickname are what it stands for.
pub(super) struct Sources<'t> {
    pub(super) second: Option<Source<'t>>,
    pub(super) minute: Source<'t>,
    pub(super) hour: Source<'t>,
    pub(super) day_of_month: Source<'t>,
    pub(super) month: Source<'t>,
    pub(super) day_of_week: Source<'t>,
    pub(super) year: Option<Source<'t>>,
}

/// Reads a cron text of five, six (seconds first) or seven (year last) fields, or a nickname.
pub(super) fn parse(text: &str) -> Result<Pattern, InvalidTiming> {
    let Sources { second, minute, hour, day_of_month, month, day_of_week, year } = &sources(text)?;
    Ok(Pattern {
        seconds: second.as_ref().map_or(Ok(1), |second| SECOND.set(second))?,
        minutes: MINUTE.set(minute)?,
        hours: HOUR.set(hour)?,
        days: days(day_of_month, day_of_week)?,
        months: MONTH.set(month)?,
        years: match year {
            Some(year) if year.text != "*" => Some(years(year)?),
            _ => None,
        },
        elapsed: minute.text.starts_with('*') || hour.text.starts_with('*'),
    })
}

/// Tells the fields of a cron text apart.
pub(super) fn sources(text: &str) -> Result<Sources<'_>, InvalidTiming> {
    let mut fields = split(text);
    if let [Source { text, range }] = &fields[..]
        && text.starts_with('@')
    {
        let known = nickname(text).ok_or_else(|| InvalidTiming {
            message: format!(
                "unknown nickname {}: known are {}",
                quoted(text),
                NICKNAMES.map(|(name, _)| name).join(", ")
            ),
            field: Some(range.clone()),
        })?;
        fields = split(known);
    }
    let count = fields.len();
    let mut rest = fields.into_iter();
    let mut next = || rest.next().ok_or_else(|| wrong_count(text, count));
    if !(5..=7).contains(&count) {
        return Err(wrong_count(text, count));
    }
    Ok(Sources {
        second: if count > 5 { Some(next()?) } else { None },
        minute: next()?,
        hour: next()?,
        day_of_month: next()?,
        month: next()?,
        day_of_week: next()?,
        year: if count > 6 { Some(next()?) } else { None },
    })
}

/// What a nickname stands for.
pub(super) fn nickname(text: &str) -> Option<&'static str> {
    NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(_, fields)| *fields)
}

fn wrong_count(text: &str, count: usize) -> InvalidTiming {
    InvalidTiming {
        message: format!(
            "cron text {} has {count} field{}: give 5 (minute hour day-of-month month day-of-week), 6 (second first) or 7 (year last)",
            quoted(text),
            if count == 1 { "" } else { "s" },
        ),
        field: None,
    }
}

fn split(text: &str) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    let mut start = 0;
    for part in text.split_inclusive(char::is_whitespace) {
        let field = part.trim_end();
        if !field.is_empty() {
            sources.push(Source { text: field, range: start..start + field.len() });
        }
        start += part.len();
    }
    sources
}

fn days(day_of_month: &Source<'_>, day_of_week: &Source<'_>) -> Result<Days, InvalidTiming> {
    let given = |source: &Source<'_>| !source.text.starts_with(['*', '?']);
    let mut days = Days { either: given(day_of_month) && given(day_of_week), ..Days::default() };
    for item in day_of_month.text.split(',') {
        days.add_day_of_month(item).map_err(|reason| DAY_OF_MONTH.fault(day_of_month, &reason))?;
    }
    for item in day_of_week.text.split(',') {
        days.add_day_of_week(item).map_err(|reason| DAY_OF_WEEK.fault(day_of_week, &reason))?;
    }
    Ok(days)
}

impl Days {
    fn add_day_of_month(&mut self, item: &str) -> Result<(), String> {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            self.last = true;
        } else if upper == "LW" {
            self.last_workday = true;
        } else if let Some(day) = upper.strip_suffix('W') {
            self.nearest_workday |= 1 << DAY_OF_MONTH.value(day)?;
        } else if item == "?" {
            self.of_month = u64::MAX;
        } else {
            DAY_OF_MONTH.each(item, |day| self.of_month |= 1 << day)?;
        }
        Ok(())
    }

    fn add_day_of_week(&mut self, item: &str) -> Result<(), String> {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            return Err("L needs a day, as in FRIL for the last Friday of the month".to_owned());
        }
        let (day, nth) = match upper.split_once('#') {
            Some((day, "L")) => (day, 0),
            Some((day, nth)) => {
                let nth = nth.parse().ok().filter(|nth| (1..=5_u8).contains(nth));
                (day, nth.ok_or("after # comes 1 to 5, or L for the last of the month")?)
            }
            None if item == "?" => {
                self.of_week = u64::MAX;
                return Ok(());
            }
            None => match upper.strip_suffix('L') {
                Some(day) => (day, 0),
                None => return DAY_OF_WEEK.each(item, |day| self.of_week |= 1 << (day % 7)),
            },
        };
        self.nth_of_week[usize::from(DAY_OF_WEEK.value(day)? % 7)] |= 1 << nth;
        Ok(())
    }
}

fn years(source: &Source<'_>) -> Result<Years, InvalidTiming> {
    let mut years = Years::default();
    for item in source.text.split(',') {
        YEAR.each(item, |year| years.insert(year)).map_err(|reason| YEAR.fault(source, &reason))?;
    }
    Ok(years)
}

impl Field {
    /// The values of a field of plain numbers, as bits.
    fn set(&self, source: &Source<'_>) -> Result<u64, InvalidTiming> {
        let mut set = 0;
        for item in source.text.split(',') {
            self.each(item, |value| set |= 1 << value).map_err(|reason| self.fault(source, &reason))?;
        }
        Ok(set)
    }

    /// Calls `take` with each value of `*`, `5`, `1-5`, `*/2`, `1-5/2` or `5/2`.
    fn each(&self, item: &str, take: impl FnMut(u16)) -> Result<(), String> {
        // Sunday's second number is for those who write it, not for `*` to count twice.
        let open_end = if self.name == DAY_OF_WEEK.name { 6 } else { self.highest };
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(self.step(step, open_end)?)),
            None => (item, None),
        };
        let (first, last) = match values.split_once('-') {
            _ if values == "*" => (self.lowest, open_end),
            Some((first, last)) => self.range(first, last)?,
            None => {
                let value = self.value(values)?;
                (value, if step.is_some() { open_end.max(value) } else { value })
            }
        };
        (first..=last).step_by(step.unwrap_or(1)).for_each(take);
        Ok(())
    }

    fn range(&self, first_text: &str, last_text: &str) -> Result<(u16, u16), String> {
        let first = self.value(first_text)?;
        let mut last = self.value(last_text)?;
        if self.name == DAY_OF_WEEK.name && last == 0 && first > 0 {
            last = 7; // FRI-SUN
        }
        if first > last {
            return Err(format!("the range {first_text}-{last_text} runs backwards: write it as two, with a comma"));
        }
        Ok((first, last))
    }

    fn step(&self, text: &str, highest: u16) -> Result<usize, String> {
        let step: usize = number(text).ok_or_else(|| format!("the step {} is not a number", quoted(text)))?.into();
        let largest = usize::from(highest - self.lowest) + 1;
        match step {
            0 => Err("a step of 0 never moves".to_owned()),
            // Such a step restarts with each hour, day or year and so isn't what it looks like.
            _ if step > largest => Err(format!("a step of {step} is larger than the whole field")),
            _ => Ok(step),
        }
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        if let Some(index) = self.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(self.lowest + index as u16);
        }
        match number(text) {
            Some(value) if (self.lowest..=self.highest).contains(&value) => Ok(value),
            Some(value) => Err(format!("{value} is out of range")),
            None if text.is_empty() => Err("a value is missing".to_owned()),
            None => Err(format!("{} is not a value", quoted(text))),
        }
    }

    fn fault(&self, source: &Source<'_>, reason: &str) -> InvalidTiming {
        InvalidTiming {
            message: format!(
                "{} field {}: {reason}; allowed are {}, *, lists, ranges and steps",
                self.name,
                quoted(source.text),
                self.values,
            ),
            field: Some(source.range.clone()),
        }
    }
}

/// A number of at most four digits and nothing else.
fn number(text: &str) -> Option<u16> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
