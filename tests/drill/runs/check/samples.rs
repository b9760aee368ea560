//! Stories to judge.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Breach, run};
use crate::faults::{What as Trouble, Whom};
use crate::ledger::{Entry, What};
use crate::legal::Event;
use crate::records::Story;
use crate::trouble::Suffered;

/// A run of `job` that lost its first worker at 5 s and ended well under the second one, from 6 s to 7 s.
pub(super) fn story(job: &str) -> Story {
    let history = [
        (0, json!({"type": "accepted"})),
        (1, json!({"type": "started", "attempt": 1})),
        (5, json!({"type": "attemptFailed", "attempt": 1})),
        (6, json!({"type": "started", "attempt": 2})),
        (8, json!({"type": "succeeded", "attempt": 2, "token": "t"})),
    ];
    let ledger = [(1, 1, What::Start), (2, 1, What::Tick), (6, 2, What::Start), (7, 2, What::Done)];
    Story {
        id: Uuid::from_u128(1),
        job: job.to_owned(),
        status: "SUCCEEDED".to_owned(),
        attempts: 2,
        error_code: None,
        key: Some("key".to_owned()),
        doomed: false,
        parent: None,
        children: None,
        schedule: None,
        tenant: None,
        chained_from: None,
        history: (1..).zip(history).map(|(seq, (at, what))| event(seq, at, what)).collect(),
        ledger: ledger.map(|(at, attempt, what)| entry(at * 1_000_000, attempt, what)).to_vec(),
        workers: [(1, "worker-0".to_owned()), (2, "worker-1".to_owned())].into(),
    }
}

pub(super) fn event(seq: i32, second: i64, what: Value) -> Event {
    Event { seq, at_us: second * 1_000_000, what }
}

pub(super) fn entry(at_us: i64, attempt: u32, what: What) -> Entry {
    Entry { id: Uuid::from_u128(1), attempt, what, at_us, pid: 7 }
}

pub(super) fn froze(what: Trouble, from_second: i64, to_second: i64) -> Suffered {
    let (from_us, to_us) = (from_second * 1_000_000, to_second * 1_000_000);
    Suffered { whom: Whom::Worker(0), what, from_us, to_us, healed: Duration::ZERO }
}

/// The breaches of a story that was changed.
pub(super) fn breaches(job: &str, suffered: &[Suffered], change: impl FnOnce(&mut Story)) -> Vec<Breach> {
    let mut story = story(job);
    change(&mut story);
    story.ledger.sort_by_key(|entry| entry.at_us);
    run(&story, None, suffered).breaches.into_iter().map(|(breach, _)| breach).collect()
}
