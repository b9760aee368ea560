//! Whether a history is one that the design allows (I4), told by rules of the drill's own: it reads what the store
//! keeps, and knows nothing of the state machine that wrote it. Pure.

use serde_json::Value;

/// An entry of a history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) seq: i32,
    /// Unix microseconds, by the database's clock.
    pub(crate) at_us: i64,
    pub(crate) what: Value,
}

impl Event {
    pub(crate) fn kind(&self) -> &str {
        self.what["type"].as_str().unwrap_or("")
    }

    pub(crate) fn attempt(&self) -> Option<u32> {
        u32::try_from(self.what["attempt"].as_u64()?).ok()
    }
}

/// By how much an entry may be older than the one before: its time is read when its transaction begins, and that may wait for
/// the run's lock for five seconds, or be that long without a word from a process that stands still.
const BEARABLE_US: i64 = 10_000_000;

/// What is known of a run while its history is read.
#[derive(Debug, Default)]
struct Reader {
    accepted: bool,
    held: bool,
    canceling: bool,
    /// Attempts opened so far.
    attempt: u32,
    /// Whether the last one is open.
    open: bool,
    /// What the open one has begun goes on elsewhere.
    elsewhere: bool,
    /// It has called for children, and ends with them.
    split: bool,
    /// The terminal status.
    ended: Option<&'static str>,
}

/// What is wrong with this history of a run that is in this status.
pub(crate) fn faults(events: &[Event], status: &str) -> Vec<String> {
    let mut reader = Reader::default();
    let mut faults = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if usize::try_from(event.seq).ok() != Some(index + 1) {
            faults.push(format!("number {} stands in place {}", event.seq, index + 1));
        }
        if let Err(fault) = reader.read(event) {
            faults.push(format!("number {}, {}: {fault}", event.seq, event.kind()));
        }
    }
    if backwards_us(events) > BEARABLE_US {
        faults.push("an entry is far older than the one before".to_owned());
    }
    match reader.ended {
        Some(ended) if ended == status => {}
        ended => faults.push(format!("the status is {status}, the history ends {}", ended.unwrap_or("open"))),
    }
    faults
}

/// By how much an entry is older than the one before, at most.
pub(crate) fn backwards_us(events: &[Event]) -> i64 {
    events.windows(2).map(|pair| pair[0].at_us - pair[1].at_us).max().unwrap_or_default().max(0)
}

impl Reader {
    fn read(&mut self, event: &Event) -> Result<(), String> {
        if let Some(ended) = self.ended {
            return Err(format!("after the end, {ended}"));
        }
        if self.accepted == (event.kind() == "accepted") {
            return Err("a history begins with its acceptance, once".to_owned());
        }
        match event.kind() {
            "accepted" => self.accepted = true,
            "held" => {
                self.waits()?;
                must(self.attempt == 0 && !self.held, "only what is new is held")?;
                self.held = true;
            }
            "admitted" => {
                must(self.held, "it was not held")?;
                self.held = false;
            }
            "started" => {
                self.waits()?;
                must(!self.held, "it is held")?;
                must(!self.open, "an attempt is open")?;
                must(!self.canceling, "canceling never retries")?;
                must(event.attempt() == Some(self.attempt + 1), "attempts count up by one")?;
                (self.attempt, self.open) = (self.attempt + 1, true);
            }
            "attemptFailed" | "released" | "deferred" => {
                self.is_of_the_open_attempt(event)?;
                must(!self.canceling, "canceling never retries")?;
                must(!(self.elsewhere && event.kind() == "released"), "what goes on elsewhere is not begun anew")?;
                (self.open, self.elsewhere) = (false, false);
            }
            "parked" => {
                self.is_of_the_open_attempt(event)?;
                must(self.elsewhere == event.what["token"].is_null(), "it is told once, and then only of lost leases")?;
                self.elsewhere = true;
            }
            "split" => {
                must(event.attempt() == Some(self.attempt), "it names another attempt than the last")?;
                must(self.open != event.what["token"].is_null(), "a handler calls for children under its lease")?;
                must(self.open || self.attempt == 0, "no attempt is open")?;
                must(!self.canceling, "what is to stop has no children")?;
                (self.open, self.elsewhere, self.split) = (false, false, true);
            }
            "cancelRequested" => {
                must(self.open || self.split, "what holds no lease is canceled at once")?;
                must(!self.canceling, "it was asked for already")?;
                self.canceling = true;
            }
            "returned" => self.waits()?,
            "resent" => {
                self.waits()?;
                must(!self.held, "it is held")?;
            }
            "succeeded" => {
                match self.split {
                    true => self.is_with_its_children(event)?,
                    false => self.is_of_the_open_attempt(event)?,
                }
                self.ended = Some("SUCCEEDED");
            }
            "failed" => {
                must(event.attempt() == Some(self.attempt), "it names another attempt than the last")?;
                must(self.open || event.what["token"].is_null(), "no lease is held under its token")?;
                let is_lost = self.canceling && event.what["token"].is_null();
                must(self.split || !is_lost, "what is lost while canceling is CANCELED")?;
                self.ended = Some("FAILED");
            }
            "canceled" => {
                must(event.attempt() == Some(self.attempt), "it names another attempt than the last")?;
                must((self.open || self.split) == self.canceling, "an open attempt is first asked to stop")?;
                self.ended = Some("CANCELED");
            }
            _ => return Err("the drill does not know this kind: teach it".to_owned()),
        }
        Ok(())
    }

    /// A trigger may be out for it.
    fn waits(&self) -> Result<(), String> {
        must(!self.open || self.elsewhere, "an attempt is open")?;
        must(!self.split, "it waits for its children alone")
    }

    fn is_with_its_children(&self, event: &Event) -> Result<(), String> {
        let is_its_own = event.attempt() == Some(self.attempt) && event.what["token"].is_null();
        must(is_its_own, "it ends with its children, under no lease")
    }

    fn is_of_the_open_attempt(&self, event: &Event) -> Result<(), String> {
        must(self.open && event.attempt() == Some(self.attempt), "it is not of the open attempt")
    }
}

fn must(holds: bool, fault: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A history in words, such as `started 1`.
    fn history(words: &[&str]) -> Vec<Event> {
        let events = words.iter().enumerate().map(|(index, word)| {
            let (kind, attempt) = word.split_once(' ').unwrap_or((word, "0"));
            let (kind, token) = kind.split_once('/').map_or((kind, Value::Null), |(kind, token)| (kind, json!(token)));
            let what = json!({"type": kind, "attempt": attempt.parse::<u32>().unwrap(), "token": token});
            Event { seq: i32::try_from(index).unwrap() + 1, at_us: 0, what }
        });
        events.collect()
    }

    #[test]
    fn lawful_histories_have_no_fault() {
        for (words, status) in [
            (&["accepted", "started 1", "succeeded 1"][..], "SUCCEEDED"),
            (&["accepted", "held", "admitted", "started 1", "failed/t 1"], "FAILED"),
            (&["accepted", "started 1", "attemptFailed 1", "returned", "started 2", "succeeded 2"], "SUCCEEDED"),
            (&["accepted", "resent", "started 1", "deferred 1", "resent", "started 2", "succeeded 2"], "SUCCEEDED"),
            (&["accepted", "started 1", "released 1", "started 2", "cancelRequested", "canceled 2"], "CANCELED"),
            (&["accepted", "started 1", "attemptFailed 1", "canceled 1"], "CANCELED"),
            (&["accepted", "started 1", "cancelRequested", "succeeded 1"], "SUCCEEDED"),
            (&["accepted", "held", "canceled 0"], "CANCELED"),
            (&["accepted", "failed 0"], "FAILED"),
            (&["accepted", "started 1", "parked/t 1", "resent", "parked 1", "returned", "succeeded/u 1"], "SUCCEEDED"),
            (&["accepted", "started 1", "parked/t 1", "cancelRequested", "canceled/u 1"], "CANCELED"),
            (&["accepted", "started 1", "parked/t 1", "attemptFailed/u 1", "started 2", "succeeded/v 2"], "SUCCEEDED"),
            (&["accepted", "split 0", "succeeded 0"], "SUCCEEDED"),
            (&["accepted", "started 1", "split/t 1", "cancelRequested", "failed 1"], "FAILED"),
            (&["accepted", "split 0", "cancelRequested", "canceled 0"], "CANCELED"),
        ] {
            assert_eq!(faults(&history(words), status), Vec::<String>::new(), "{words:?}");
        }
    }

    #[test]
    fn every_breach_is_found() {
        for (words, status, expected) in [
            (&["started 1", "succeeded 1"][..], "SUCCEEDED", "begins with its acceptance"),
            (&["accepted", "started 2", "succeeded 2"], "SUCCEEDED", "count up by one"),
            (&["accepted", "started 1", "started 2", "succeeded 2"], "SUCCEEDED", "an attempt is open"),
            (&["accepted", "started 1", "succeeded 1", "succeeded 1"], "SUCCEEDED", "after the end"),
            (&["accepted", "started 1", "attemptFailed 1", "succeeded 1"], "SUCCEEDED", "not of the open attempt"),
            (&["accepted", "started 1", "cancelRequested", "attemptFailed 1"], "IN_PROGRESS", "never retries"),
            (&["accepted", "started 1", "cancelRequested", "failed 1"], "FAILED", "lost while canceling"),
            (&["accepted", "started 1", "attemptFailed 1", "failed/t 1"], "FAILED", "no lease is held"),
            (&["accepted", "started 1", "canceled 1"], "CANCELED", "first asked to stop"),
            (&["accepted", "cancelRequested", "canceled 0"], "CANCELED", "canceled at once"),
            (&["accepted", "held", "started 1", "succeeded 1"], "SUCCEEDED", "it is held"),
            (&["accepted", "started 1", "resent", "succeeded 1"], "SUCCEEDED", "an attempt is open"),
            (&["accepted", "started 1"], "IN_PROGRESS", "ends open"),
            (&["accepted", "started 1", "succeeded 1"], "FAILED", "the status is FAILED"),
            (&["accepted", "started 1", "parked 1", "succeeded 1"], "SUCCEEDED", "told once"),
            (&["accepted", "started 1", "parked/t 1", "parked/t 1", "succeeded 1"], "SUCCEEDED", "told once"),
            (&["accepted", "started 1", "parked/t 1", "started 2", "succeeded 2"], "SUCCEEDED", "an attempt is open"),
            (&["accepted", "started 1", "parked/t 1", "released/u 1"], "IN_PROGRESS", "not begun anew"),
            (&["accepted", "parked 0"], "IN_PROGRESS", "not of the open attempt"),
            (&["accepted", "split/t 0", "succeeded 0"], "SUCCEEDED", "under its lease"),
            (&["accepted", "started 1", "attemptFailed 1", "split 1"], "IN_PROGRESS", "no attempt is open"),
            (&["accepted", "started 1", "split/t 1", "succeeded/t 1"], "SUCCEEDED", "under no lease"),
            (&["accepted", "started 1", "split/t 1", "started 2", "succeeded 2"], "SUCCEEDED", "children alone"),
            (&["accepted", "split 0", "canceled 0"], "CANCELED", "first asked to stop"),
            (&["accepted", "danced"], "ACCEPTED", "teach it"),
        ] {
            let found = faults(&history(words), status).join("; ");
            assert!(found.contains(expected), "{words:?}: {found:?}");
        }
        let mut gap = history(&["accepted", "started 1", "succeeded 1"]);
        (gap[1].seq, gap[2].at_us) = (3, -BEARABLE_US - 1);
        let found = faults(&gap, "SUCCEEDED").join("; ");
        assert!(found.contains("number 3 stands in place 2") && found.contains("far older"), "{found}");
    }
}
