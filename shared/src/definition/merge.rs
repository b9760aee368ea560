//! Definitions of many texts in one order, each with the number of the text that it comes from.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::mem;

use super::build::Built;
use super::model::{Definitions, Job};
use super::schedule::Schedule;

/// Definitions, and for each of them the number of its text.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) definitions: Definitions,
    jobs_from: Vec<u32>,
    schedules_from: Vec<u32>,
}

/// What has a place in the order.
trait Named {
    fn full_name(&self) -> (&str, &str);
}

impl Named for Job {
    fn full_name(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for Schedule {
    fn full_name(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Merged {
    /// Adds what a text defines, out of order.
    pub(super) fn push(&mut self, text: u32, built: Built) {
        let Built { mut jobs, mut schedules, .. } = built;
        self.jobs_from.resize(self.jobs_from.len() + jobs.len(), text);
        self.schedules_from.resize(self.schedules_from.len() + schedules.len(), text);
        self.definitions.jobs.append(&mut jobs);
        self.definitions.schedules.append(&mut schedules);
    }

    /// Removes what comes from other texts than these.
    pub(super) fn retain(&mut self, texts: &HashSet<u32>) {
        retain(&mut self.definitions.jobs, &mut self.jobs_from, texts);
        retain(&mut self.definitions.schedules, &mut self.schedules_from, texts);
    }

    /// Takes all that the other one has, and brings it in order.
    pub(super) fn take(&mut self, other: &mut Self) {
        let (here, there) = (&mut self.definitions, &mut other.definitions);
        take(&mut here.jobs, &mut self.jobs_from, &mut there.jobs, &mut other.jobs_from);
        take(&mut here.schedules, &mut self.schedules_from, &mut there.schedules, &mut other.schedules_from);
    }
}

fn retain<T>(items: &mut Vec<T>, from: &mut Vec<u32>, texts: &HashSet<u32>) {
    if from.iter().all(|text| texts.contains(text)) {
        return;
    }
    let mut kept = from.iter().map(|text| texts.contains(text));
    items.retain(|_| kept.next().unwrap_or_default());
    from.retain(|text| texts.contains(text));
}

fn take<T: Named>(items: &mut Vec<T>, from: &mut Vec<u32>, more: &mut Vec<T>, more_from: &mut Vec<u32>) {
    if more.is_empty() {
        return;
    }
    if items.is_empty() {
        // They are large, and many at the first reading.
        (*items, *from) = (mem::take(more), mem::take(more_from));
    } else {
        items.append(more);
        from.append(more_from);
    }
    sort(items, from);
}

/// Sorts by a list of numbers, as the items are large, and in place, as they are many.
fn sort<T: Named>(items: &mut [T], from: &mut [u32]) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| compare(&items[*a], &items[*b]));
    for start in 0..order.len() {
        let mut at = start;
        // Each round puts one item where it belongs; a place that is done points to itself.
        while order[at] != start {
            let next = order[at];
            items.swap(at, next);
            from.swap(at, next);
            order[at] = at;
            at = next;
        }
        order[at] = at;
    }
}

fn compare(a: &impl Named, b: &impl Named) -> Ordering {
    a.full_name().cmp(&b.full_name())
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Timing;
    use super::*;

    fn built(names: &str) -> Built {
        let schedule = |name: char| Schedule::new("n", name, Timing::Cron(names.to_owned()), "");
        Built { schedules: names.chars().map(schedule).collect(), ..Built::default() }
    }

    #[test]
    fn what_is_gone_goes_and_what_is_new_comes_in_order() {
        let (mut merged, mut new) = (Merged::default(), Merged::default());
        let mut step = |alive: &[u32], texts: &[(u32, &str)]| {
            for (number, names) in texts {
                new.push(*number, built(names));
            }
            merged.retain(&alive.iter().copied().collect());
            merged.take(&mut new);
            let (schedules, from) = (&merged.definitions.schedules, &merged.schedules_from);
            assert_eq!(schedules.len(), from.len());
            schedules.iter().zip(from).map(|(schedule, from)| format!("{}{from}", schedule.name)).collect::<String>()
        };
        assert_eq!(step(&[1, 2, 3], &[(1, "zcm"), (2, ""), (3, "yba")]), "a3b3c1m1y3z1");
        assert_eq!(step(&[1, 2, 3], &[]), "a3b3c1m1y3z1");
        assert_eq!(step(&[1, 4], &[(4, "dxa")]), "a4c1d4m1x4z1");
        assert_eq!(step(&[4, 5], &[(5, "zyb")]), "a4b5d4x4y5z5");
        assert_eq!(step(&[], &[]), "");
    }
}
