//! A plan for people.

use jiff::Timestamp;

use super::document::{Difference, FireTimes, Name, Overrun, Plan};
use crate::failure::Failure;
use crate::output::{Output, plural, printable};

/// Names that a list shows.
const SHOWN: usize = 10;

/// Writes the plan, or that there is nothing to do.
pub(crate) fn summarize(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    let in_force = match plan.in_force_version {
        Some(version) => format!("version {version} is in force"),
        None => "nothing is in force".to_owned(),
    };
    if !plan.changes {
        output.line(&format!("Nothing would change ({in_force})."))?;
        overruns(&plan.overruns, output)?;
        return kept(plan, output);
    }
    let count = |of: fn(&Difference) -> usize| {
        format!("{} and {}", plural(of(&plan.jobs), "job"), plural(of(&plan.schedules), "schedule"))
    };
    output.line(&format!(
        "To add: {}; to change: {}; to remove: {} ({in_force}).\n",
        count(|difference| difference.added.len()),
        count(|difference| difference.changed.len()),
        count(|difference| difference.removed.len()),
    ))?;
    difference("job", &plan.jobs, output)?;
    difference("schedule", &plan.schedules, output)?;
    fires(plan, output)?;
    collisions(plan, output)?;
    clock_changes(plan, output)?;
    overruns(&plan.overruns, output)?;
    if plan.cut {
        output
            .line("\nThere was too much to look at it all: fires, collisions, clock changes and overruns are those of a part.")?;
    }
    kept(plan, output)
}

fn difference(kind: &str, difference: &Difference, output: &mut Output) -> Result<(), Failure> {
    for name in &difference.added {
        output.line(&output.paint("32", &format!("+ {kind} {}", name.text())))?;
    }
    for changed in &difference.changed {
        output.line(&output.paint("33", &format!("~ {kind} {}", changed.name.text())))?;
        changed.changes.iter().try_for_each(|change| output.line(&format!("    {}", change.words())))?;
    }
    for name in &difference.removed {
        output.line(&output.paint("31", &format!("- {kind} {}", name.text())))?;
    }
    Ok(())
}

fn fires(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    if plan.fire_times.is_empty() {
        return Ok(());
    }
    output.line("\nHow the next 100 fires shift")?;
    for times in &plan.fire_times {
        output.line(&format!("  {}: {}", times.schedule.text(), shift(times, output)))?;
        for (mark, list, count) in [
            ("-", &times.removed, times.before.saturating_sub(times.same)),
            ("+", &times.added, times.after.saturating_sub(times.same)),
        ] {
            if let Some(line) = instants(list, count, output) {
                output.line(&format!("    {mark} {line}"))?;
            }
        }
        if let Some(note) = &times.note {
            output.line(&format!("    {}", printable(note)))?;
        }
    }
    Ok(())
}

fn shift(times: &FireTimes, output: &Output) -> String {
    let FireTimes { before, after, same, first_difference, .. } = times;
    match first_difference {
        _ if *before == 0 => format!("{after} new"),
        _ if *after == 0 => format!("{before} less"),
        None if before == same && after == same => "as before".to_owned(),
        None => format!("{same} of {before} stay"),
        Some(at) => format!("{same} of {before} stay; the first that differs is {}", output.local(*at)),
    }
}

/// The first instants of a list, and how many more there are.
fn instants(list: &[Timestamp], count: u64, output: &Output) -> Option<String> {
    let shown: Vec<_> = list.iter().map(|at| output.local(*at)).collect();
    let more = count.saturating_sub(shown.len() as u64);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| format!("{}{rest}", shown.join(", ")))
}

fn collisions(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    if plan.collisions.is_empty() {
        return Ok(());
    }
    output.line("\nMany schedules at one second (`jitter` spreads their runs)")?;
    for collision in &plan.collisions {
        let names = names(&collision.schedules, collision.count);
        output.line(&format!("  {}  {} schedules: {names}", output.local(collision.at), collision.count))?;
    }
    Ok(())
}

fn clock_changes(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    if plan.clock_changes.is_empty() {
        return Ok(());
    }
    output.line("\nClock changes of the next year")?;
    for change in &plan.clock_changes {
        let (at, name) = (output.local(change.at), change.schedule.text());
        output.line(&format!("  {at}  {name}: {}", printable(&change.explanation)))?;
    }
    Ok(())
}

/// Warns of schedules that come round sooner than their jobs usually take.
pub(crate) fn overruns(overruns: &[Overrun], output: &mut Output) -> Result<(), Failure> {
    if overruns.is_empty() {
        return Ok(());
    }
    output.line("\nDue again before a run has usually ended (docs/long-runs.md)")?;
    for overrun in overruns.iter().take(SHOWN) {
        output.line(&format!("  {} {}", overrun.schedule.text(), printable(&overrun.explanation)))?;
    }
    match overruns.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => output.line(&format!("  and {more} more")),
    }
}

fn kept(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    let kept = &plan.not_in_files;
    if kept.jobs.is_empty() && kept.schedules.is_empty() {
        return Ok(());
    }
    output.line("\nIn force, not in these files, and kept (--prune would remove them)")?;
    for (kind, list) in [("jobs", &kept.jobs), ("schedules", &kept.schedules)] {
        if !list.is_empty() {
            output.line(&format!("  {kind}: {}", names(list, list.len() as u64)))?;
        }
    }
    Ok(())
}

fn names(list: &[Name], count: u64) -> String {
    let shown: Vec<_> = list.iter().take(SHOWN).map(Name::text).collect();
    match count.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
