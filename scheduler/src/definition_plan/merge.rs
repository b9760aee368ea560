//! Files over what is in force.

use std::collections::{BTreeMap, BTreeSet};

use reveille_shared::definition::{Definitions, Job, Schedule, changed_members};
use reveille_shared::store::{ChangeSet, ScheduleKey};

use super::sound::{self, Unsound};
use super::{Current, Differences, Merged};

/// What files change of what is in force. What is in force and in no file stays, unless `prune`: then it goes, in the
/// namespaces of the files.
///
/// # Errors
/// Everything because of which the whole would not be sound: nobody may call a job that is not in force, and chains must
/// come to an end.
pub fn merge(current: &Current, files: &Definitions, prune: bool) -> Result<Merged, Vec<Unsound>> {
    let namespaces: BTreeSet<&str> = files
        .jobs
        .iter()
        .map(|job| job.namespace.as_str())
        .chain(files.schedules.iter().map(|schedule| schedule.namespace.as_str()))
        .collect();
    let jobs = side(
        current.jobs.iter().map(|job| &job.item),
        &files.jobs,
        |job: &Job| ScheduleKey::of_job(job),
        &namespaces,
        prune,
    );
    let schedules = side(
        current.schedules.iter().map(|row| &row.schedule),
        &files.schedules,
        |schedule: &Schedule| ScheduleKey::of(schedule),
        &namespaces,
        prune,
    );
    let known = current.in_force.as_ref();
    let definitions = Definitions {
        // A folder with a lower one must not be able to take it all back.
        revision: known.and_then(|in_force| in_force.revision).max(files.revision),
        jobs: jobs.whole,
        schedules: schedules.whole,
    };
    let unsound = sound::check(&definitions);
    if !unsound.is_empty() {
        return Err(unsound);
    }
    let set = ChangeSet {
        base: known.map(|in_force| in_force.version),
        put_jobs: jobs.put,
        put_schedules: schedules.put,
        remove_jobs: jobs.differences.removed.clone(),
        remove_schedules: schedules.differences.removed.clone(),
        digest: definitions.digest(),
        revision: definitions.revision,
    };
    Ok(Merged {
        definitions,
        set,
        jobs: jobs.differences,
        schedules: schedules.differences,
        kept_jobs: jobs.kept,
        kept_schedules: schedules.kept,
        namespaces: namespaces.into_iter().map(str::to_owned).collect(),
    })
}

/// Jobs or schedules.
struct Side<T> {
    whole: Vec<T>,
    put: Vec<T>,
    differences: Differences,
    kept: Vec<ScheduleKey>,
}

fn side<'a, T: Clone + PartialEq + serde::Serialize + 'a>(
    current: impl Iterator<Item = &'a T>,
    files: &[T],
    key: impl Fn(&T) -> ScheduleKey,
    namespaces: &BTreeSet<&str>,
    prune: bool,
) -> Side<T> {
    let mut whole: BTreeMap<ScheduleKey, &T> = current.map(|item| (key(item), item)).collect();
    let named: BTreeSet<ScheduleKey> = files.iter().map(&key).collect();
    let missing = |known: &&ScheduleKey| namespaces.contains(known.namespace.as_str()) && !named.contains(known);
    let (mut differences, mut kept) = (Differences::default(), Vec::new());
    let missing: Vec<ScheduleKey> = whole.keys().filter(missing).cloned().collect();
    if prune {
        whole.retain(|key, _| missing.binary_search(key).is_err());
        differences.removed = missing;
    } else {
        kept = missing;
    }
    let mut put = Vec::new();
    for item in files {
        let key = key(item);
        match whole.get(&key) {
            Some(old) if *old == item => continue,
            Some(old) => differences.changed.push((key.clone(), changed_members(*old, item))),
            None => differences.added.push(key.clone()),
        }
        put.push(item.clone());
        whole.insert(key, item);
    }
    // By namespace and name, as the reader of files has them.
    let whole = whole.into_values().cloned().collect();
    Side { whole, put, differences, kept }
}
