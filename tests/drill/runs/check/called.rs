//! Whether every caller, every fire and every success has the runs that it has called for, and no others. Pure.

use std::collections::HashMap;

use uuid::Uuid;

use crate::jobs::{self, SCHEDULES};
use crate::load::Asked;
use crate::records::{Fire, Story};

/// What is wrong with the runs that callers have asked for.
pub(super) fn of_callers(stories: &[Story], asked: &HashMap<String, Asked>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut by_key: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for story in stories {
        if let Some(key) = &story.key {
            by_key.entry(key).or_default().push(story.id);
        }
    }
    for (key, asked) in asked {
        match by_key.remove(key.as_str()).as_deref() {
            Some([id]) if *id == asked.id => {}
            found => faults.push(format!("accepted as {} under {key}, there is {found:?}", asked.id)),
        }
    }
    // A caller that gave up is told of elsewhere; here is nobody who asked.
    faults.extend(by_key.into_iter().map(|(key, ids)| format!("{ids:?} under {key}: nobody knows")));
    faults
}

/// What is wrong with the fires.
pub(super) fn of_fires(stories: &[Story], fires: &[Fire]) -> Vec<String> {
    let mut faults = Vec::new();
    let jobs: HashMap<Uuid, &str> = stories.iter().map(|story| (story.id, story.job.as_str())).collect();
    let mut named: HashMap<Uuid, usize> = HashMap::new();
    for schedule in &SCHEDULES {
        let mut expected = None;
        for fire in fires.iter().filter(|fire| fire.schedule == schedule.name) {
            let (name, due_us) = (schedule.name, fire.due_us);
            if expected.is_some_and(|expected| expected != due_us) {
                faults.push(format!("{name}: {expected:?} was due, {due_us} is what follows"));
            }
            expected = Some(due_us + schedule.every * 1_000_000 * fire.due_times);
            let called: Vec<_> = fire.work_requests.iter().map(|id| jobs.get(id).copied()).collect();
            if !fire.triggered || called != schedule.jobs.iter().copied().map(Some).collect::<Vec<_>>() {
                faults.push(format!("{name} at {due_us}: triggered {}, called for {called:?}", fire.triggered));
            }
            for id in fire.work_requests.iter() {
                *named.entry(*id).or_default() += 1;
            }
        }
    }
    let of_fires = stories.iter().filter(|story| story.schedule.is_some());
    faults.extend(of_fires.filter(|story| named.get(&story.id) != Some(&1)).map(|story| {
        let times = named.get(&story.id).copied().unwrap_or(0);
        format!("{times} fires name {}, a run of {}", story.id, story.job)
    }));
    faults
}

/// What is wrong with the chains: each success calls for its next job once, any other end for nothing.
pub(super) fn of_chains(stories: &[Story]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut chained: HashMap<Uuid, Vec<&str>> = HashMap::new();
    for (from, story) in stories.iter().filter_map(|story| Some((story.chained_from?, story))) {
        chained.entry(from).or_default().push(&story.job);
    }
    for story in stories {
        let next = jobs::find(&story.job).and_then(|job| job.then).filter(|_| story.status == "SUCCEEDED");
        let called = chained.remove(&story.id).unwrap_or_default();
        if called != next.into_iter().collect::<Vec<_>>() {
            let (id, job, status) = (story.id, &story.job, &story.status);
            faults.push(format!("{id} of {job} ended {status} and has called for {called:?}"));
        }
    }
    faults.extend(
        chained.into_iter().map(|(from, called)| format!("{called:?} were called for by {from}: nobody knows it")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use sqlx::types::Json;

    use super::super::samples::story;
    use super::*;

    #[test]
    fn who_was_accepted_must_be_there_once() {
        let asked = |id| {
            HashMap::from([("key".to_owned(), Asked { id: Uuid::from_u128(id), canceled: false, children: None })])
        };
        assert_eq!(of_callers(&[story("short")], &asked(1)), Vec::<String>::new());
        for faults in [
            of_callers(&[], &asked(1)),
            of_callers(&[story("short"), story("short")], &asked(1)),
            of_callers(&[story("short")], &HashMap::new()),
        ] {
            assert_eq!(faults.len(), 1, "{faults:?}");
        }
    }

    #[test]
    fn every_fire_has_its_runs_and_every_due_time_its_fire() {
        let stories: Vec<_> = (1..=3)
            .map(|id| Story {
                id: Uuid::from_u128(id),
                key: None,
                schedule: Some("second".to_owned()),
                ..story("short")
            })
            .collect();
        let fires: Vec<_> = (1..=3)
            .map(|second| Fire {
                schedule: "second".to_owned(),
                due_us: second * 1_000_000,
                triggered: true,
                due_times: 1,
                work_requests: Json(vec![Uuid::from_u128(u128::try_from(second).unwrap())]),
            })
            .collect();
        assert_eq!(of_fires(&stories, &fires), Vec::<String>::new());
        let missing = of_fires(&stories, &[fires[0].clone(), fires[2].clone()]).join("; ");
        assert!(missing.contains("was due") && missing.contains("0 fires name"), "{missing}");
        let lost = of_fires(&stories[1..], &fires).join("; ");
        assert!(lost.contains("called for [None]"), "{lost}");
    }

    #[test]
    fn a_success_calls_for_its_next_job_once() {
        let first = Story { id: Uuid::from_u128(1), ..story("first") };
        let second = Story { id: Uuid::from_u128(2), chained_from: Some(first.id), ..story("second") };
        let third = |id| Story { id: Uuid::from_u128(id), chained_from: Some(second.id), ..story("third") };
        assert_eq!(of_chains(&[first.clone(), second.clone(), third(3)]), Vec::<String>::new());
        let failed = Story { status: "FAILED".to_owned(), ..second.clone() };
        assert_eq!(of_chains(&[first.clone(), failed.clone()]), Vec::<String>::new());
        for faulty in [
            vec![first.clone()],
            vec![first.clone(), second.clone()],
            vec![first.clone(), second.clone(), third(3), third(4)],
            vec![first.clone(), failed, third(3)],
            vec![third(3)],
        ] {
            assert_eq!(of_chains(&faulty).len(), 1, "{faulty:?}");
        }
    }
}
