//! Tables and times for people, JSON for machines.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::state::Status;
use serde::Serialize;

use crate::failure::Failure;

/// The least width in which the last column of a table is worth folding.
const LEAST_WIDTH: u32 = 24;

/// Standard output, and who reads it.
pub(crate) struct Output {
    /// Machines read it.
    pub(crate) json: bool,
    /// People do, and colours help them.
    pub(crate) colour: bool,
    terminal: bool,
    zone: TimeZone,
    out: BufWriter<Stdout>,
}

impl Output {
    /// Standard output for people or, if `json`, for machines.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = !json && is_colourful(terminal);
        Self { json, colour, terminal, zone: TimeZone::system(), out: BufWriter::new(io::stdout()) }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// Writes a text that ends its last line itself.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Writes a JSON document over several lines.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        self.line("")
    }

    /// Writes a JSON document on a line of its own, for streams of them.
    pub(crate) fn record(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.line("")
    }

    /// Hands to the reader what was written so far.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Writes a table without frames. Cells come from [`Output::cell`] and its kin. On a terminal the last column is folded to what
    /// the others leave, if that is worth it; these are never, as names and ids in pieces are of no use to anybody.
    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<Cell>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let bold = |title: &&str| match self.colour {
            true => Cell::new(title).add_attribute(Attribute::Bold),
            false => Cell::new(title),
        };
        table.set_header(head.iter().map(bold).collect::<Vec<_>>());
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let others = head.len().saturating_sub(1);
        let taken: u32 = table.column_max_content_widths().iter().take(others).map(|width| u32::from(*width) + 2).sum();
        let is_room = table.width().is_some_and(|width| u32::from(width) >= taken + LEAST_WIDTH);
        table.set_content_arrangement(match self.terminal && is_room {
            true => ContentArrangement::Dynamic,
            false => ContentArrangement::Disabled,
        });
        for column in table.column_iter_mut().take(others) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        let lines: Vec<_> = table.lines().collect();
        lines.iter().try_for_each(|line| self.line(line.trim_end()))
    }

    /// A cell with a text from anywhere.
    pub(crate) fn cell(text: &str) -> Cell {
        Cell::new(printable(text))
    }

    /// A cell with a status in its colour.
    pub(crate) fn status_cell(&self, status: Status) -> Cell {
        let cell = Cell::new(status.as_str());
        if !self.colour {
            return cell;
        }
        cell.fg(match status {
            Status::Succeeded => Color::Green,
            Status::Failed => Color::Red,
            Status::Canceled | Status::Canceling => Color::Yellow,
            Status::InProgress => Color::Cyan,
            Status::Accepted => Color::Reset,
        })
    }

    /// A cell with a word that must be seen.
    pub(crate) fn alert_cell(&self, text: &str) -> Cell {
        let cell = Self::cell(text);
        if self.colour { cell.fg(Color::Yellow) } else { cell }
    }

    /// A text in an ANSI colour such as `31` or `1;31`, for people who like colours.
    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line's text as it was printed somewhere else: as it is for programs, without control characters
    /// for a terminal, which would obey them.
    pub(crate) fn foreign(&self, text: &str) -> String {
        if self.terminal { printable(text) } else { text.to_owned() }
    }

    /// The reader's time zone.
    pub(crate) fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    /// An instant on the reader's own clock, to the second.
    pub(crate) fn local(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// A time of day on the reader's own clock, with milliseconds.
    pub(crate) fn time_of_day(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

/// Whether people who read a stream get colours: on a terminal, unless they asked for none (no-color.org).
pub(crate) fn is_colourful(terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The beginning of a text's first line, with a mark if that is not all.
pub(crate) fn beginning(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.chars().count() <= most {
        return line.to_owned();
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// A text from outside without characters that would garble or command a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The two largest units of a span, like `3 h 5 m`; its sign is left out.
pub(crate) fn span(span: SignedDuration) -> String {
    const UNITS: [(&str, u128); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let millis = span.unsigned_abs().as_millis();
    if millis < 1000 {
        return format!("{millis} ms");
    }
    if millis < 10_000 {
        return format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    }
    let first = UNITS.iter().position(|(_, size)| millis >= *size).unwrap_or(UNITS.len() - 1);
    let (name, size) = UNITS[first];
    match UNITS.get(first + 1).map(|(smaller, part)| (smaller, millis % size / part)) {
        Some((smaller, count)) if count > 0 => format!("{} {name} {count} {smaller}", millis / size),
        _ => format!("{} {name}", millis / size),
    }
}

/// An instant on the clock of a zone: `Wed 2026-11-25 02:00:00 +01:00`.
pub(crate) fn there(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A count with its noun.
pub(crate) fn plural(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into().unwrap_or(0) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// How far away an instant is: `in 3 h 5 m`, `2 m 4 s ago`.
pub(crate) fn distance(at: Timestamp, now: Timestamp) -> String {
    // Between now and the due time people count whole seconds.
    let away = SignedDuration::from_secs(at.duration_since(now).as_secs());
    let far = if away.is_zero() { "0 s".to_owned() } else { span(away).replace(".0 s", " s") };
    if at < now { format!("{far} ago") } else { format!("in {far}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_999, "59 s"),
            (60_000, "1 m"),
            (61_000, "1 m 1 s"),
            (11_100_000, "3 h 5 m"),
            (3_601_000, "1 h"),
            (86_400_000, "1 d"),
            (100 * 86_400_000 + 7_200_000, "100 d 2 h"),
        ] {
            assert_eq!(span(SignedDuration::from_millis(millis)), text);
            assert_eq!(span(SignedDuration::from_millis(-millis)), text);
        }
    }

    #[test]
    fn distances_say_which_way() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |secs| now + SignedDuration::from_secs(secs);
        assert_eq!(distance(at(11_100), now), "in 3 h 5 m");
        assert_eq!(distance(at(-124), now), "2 m 4 s ago");
        assert_eq!(distance(at(3), now), "in 3 s");
        assert_eq!(distance(now, now), "in 0 s");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(beginning(" whole \nnext", 5), "whole");
        assert_eq!(beginning("as many runs", 9), "as many…");
        assert_eq!(beginning("ä€äö", 3), "ä€…");
        assert_eq!(beginning("", 3), "");
    }

    #[test]
    fn nothing_from_outside_commands_the_terminal() {
        assert_eq!(printable("a\tb\x1b[2J\u{9b}c\r"), "a\tb\u{fffd}[2J\u{fffd}c\u{fffd}");
    }
}
