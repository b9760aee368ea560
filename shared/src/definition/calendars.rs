//! Calendars by namespace and name, and the schedules that name them.

use std::collections::HashMap;
use std::sync::Arc;

use super::outline::Outline;
use super::schedule::{DayRule, Schedule};

/// The days of every calendar.
#[derive(Debug, Default)]
pub(super) struct Calendars<'a>(HashMap<&'a str, HashMap<&'a str, &'a Arc<[DayRule]>>>);

impl<'a> Calendars<'a> {
    pub(super) fn of(outlines: impl Iterator<Item = &'a Outline>) -> Self {
        let mut calendars = Self::default();
        for outline in outlines.filter(|outline| !outline.calendars.is_empty()) {
            let names = calendars.0.entry(&*outline.namespace).or_default();
            names.extend(outline.calendars.iter().map(|(name, days)| (outline.text(*name), days)));
        }
        calendars
    }

    pub(super) fn contains(&self, namespace: &str, name: &str) -> bool {
        self.0.get(namespace).is_some_and(|names| names.contains_key(name))
    }

    /// Namespaces and names.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().flat_map(|(namespace, names)| names.keys().map(|name| (*namespace, *name)))
    }

    /// Gives the calendars among some rules the days that they have, and says whether all of them are known.
    pub(super) fn fill(&self, namespace: &str, rules: &mut [DayRule]) -> bool {
        rules.iter_mut().all(|rule| {
            let DayRule::Calendar { name, days } = rule else { return true };
            let Some(known) = self.0.get(namespace).and_then(|names| names.get(name.as_str())) else { return false };
            if !Arc::ptr_eq(days, known) {
                *days = Arc::clone(known);
            }
            true
        })
    }

    /// Does so for all schedules.
    pub(super) fn fill_all(&self, schedules: &mut [Schedule]) {
        if self.0.is_empty() {
            return;
        }
        for schedule in schedules {
            self.fill(&schedule.namespace, &mut schedule.except);
            self.fill(&schedule.namespace, &mut schedule.only);
        }
    }
}
