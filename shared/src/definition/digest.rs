//! Definitions → a fingerprint of their content, as a whole and one by one.

use std::collections::HashMap;

use serde::Serialize;

use super::model::{Definitions, Job};
use super::schedule::Schedule;

impl Definitions {
    /// A fingerprint of the content: equal definitions have equal ones, whatever files and order they come from.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut all = blake3::Hasher::new();
        let mut json = Vec::new();
        all.update(one(&self.revision, &mut json).as_bytes());
        all.update(&self.jobs.len().to_le_bytes());
        for job in &self.jobs {
            all.update(one(job, &mut json).as_bytes());
        }
        for schedule in &self.schedules {
            all.update(one(schedule, &mut json).as_bytes());
        }
        all.finalize().to_hex().to_string()
    }
}

/// What definitions were, remembered by fingerprints: enough to tell what of later ones is new, changed or gone.
#[derive(Debug, Default)]
pub struct Remembered {
    jobs: HashMap<Box<str>, u128>,
    schedules: HashMap<Box<str>, u128>,
}

/// What of some definitions differs from remembered ones. Names are (namespace, name).
#[derive(Debug, Default, PartialEq)]
pub struct Difference<'a> {
    /// New or changed jobs.
    pub jobs: Vec<&'a Job>,
    /// New or changed schedules.
    pub schedules: Vec<&'a Schedule>,
    /// Jobs that are gone.
    pub gone_jobs: Vec<(String, String)>,
    /// Schedules that are gone.
    pub gone_schedules: Vec<(String, String)>,
}

impl Remembered {
    /// Remembers definitions.
    #[must_use]
    pub fn of(definitions: &Definitions) -> Self {
        let mut json = Vec::new();
        let jobs = definitions.jobs.iter().map(|job| (key(&job.namespace, &job.name), short(job, &mut json))).collect();
        let schedules = definitions.schedules.iter().map(|s| (key(&s.namespace, &s.name), short(s, &mut json)));
        Self { jobs, schedules: schedules.collect() }
    }

    /// What of `now` is not as it was, and remembers `now` instead.
    pub fn replace<'a>(&mut self, now: &'a Definitions) -> Difference<'a> {
        let later = Self::of(now);
        let is_other =
            |was: &HashMap<Box<str>, u128>, is: &HashMap<Box<str>, u128>, key: &str| was.get(key) != is.get(key);
        let jobs = now.jobs.iter().filter(|j| is_other(&self.jobs, &later.jobs, &key(&j.namespace, &j.name)));
        let schedules =
            now.schedules.iter().filter(|s| is_other(&self.schedules, &later.schedules, &key(&s.namespace, &s.name)));
        let gone = |was: &HashMap<Box<str>, u128>, is: &HashMap<Box<str>, u128>| {
            let gone = was.keys().filter(|key| !is.contains_key(*key));
            gone.filter_map(|key| key.split_once('/')).map(|(ns, name)| (ns.to_owned(), name.to_owned())).collect()
        };
        let difference = Difference {
            jobs: jobs.collect(),
            schedules: schedules.collect(),
            gone_jobs: gone(&self.jobs, &later.jobs),
            gone_schedules: gone(&self.schedules, &later.schedules),
        };
        *self = later;
        difference
    }
}

/// Neither of the two can hold a slash.
fn key(namespace: &str, name: &str) -> Box<str> {
    format!("{namespace}/{name}").into_boxed_str()
}

/// Half of a fingerprint is enough to tell two definitions of one name apart.
fn short(item: &impl Serialize, json: &mut Vec<u8>) -> u128 {
    let [half, _] = *one(item, json).as_bytes().as_chunks::<16>().0 else { unreachable!("a fingerprint has 32 bytes") };
    u128::from_le_bytes(half)
}

/// Of one item's JSON form, in which members always stand in the same order.
fn one(item: &impl Serialize, json: &mut Vec<u8>) -> blake3::Hash {
    json.clear();
    serde_json::to_writer(&mut *json, item).expect("every key is a text, and writing to memory doesn't fail");
    blake3::hash(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Handler, Timing};

    #[test]
    fn tells_what_is_new_changed_or_gone() {
        let job = |name: &str| Job::new("n", name, Handler::Function("f".into()));
        let schedule = |name: &str, every: &str| Schedule::new("n", name, Timing::Every(every.parse().unwrap()), "a");
        let before = Definitions {
            jobs: vec![job("a"), job("b")],
            schedules: vec![schedule("s", "1s"), schedule("t", "1s")],
            ..Definitions::default()
        };
        let after = Definitions {
            jobs: vec![job("b"), job("c")],
            schedules: vec![schedule("s", "2s"), schedule("t", "1s")],
            ..Definitions::default()
        };
        let mut remembered = Remembered::of(&before);
        let difference = remembered.replace(&after);
        assert_eq!(difference.jobs, [&job("c")]);
        assert_eq!(difference.schedules, [&schedule("s", "2s")]);
        assert_eq!((difference.gone_jobs, difference.gone_schedules), (vec![("n".into(), "a".into())], vec![]));
        assert_eq!(remembered.replace(&after), Difference::default());
    }
}
