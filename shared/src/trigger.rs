//! The one-way message that tells a worker to look: a wake-up, never the truth (I7).
//!
//! On the wire it is JSON in a versioned envelope, so that a worker in any language can take part:
//! `{"v":1,"id":"0198…","n":1,"namespace":"billing","job":"invoice-run"}`.

use serde::{Deserialize, Serialize};

use crate::work_request::WorkRequestId;

/// The envelope version of triggers that every worker can act on.
pub const VERSION: u32 = 1;
/// That of triggers that ask to go on with what an attempt has begun elsewhere: a worker that does not know it would begin
/// the attempt anew, and refuses the message.
pub const ONWARD: u32 = 2;
/// That of first triggers that nobody has marked as sent: a worker that claims for itself and does not know it would find nothing to
/// claim.
pub const UNMARKED: u32 = 3;
/// The newest that this build reads.
const NEWEST: u32 = UNMARKED;

/// "Work request `id` is due": the claim that it asks for succeeds only while its phase is SENT(`n`), or, for the first one, while
/// it is due and none was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Envelope version.
    pub v: u32,
    /// The work request to claim.
    pub id: WorkRequestId,
    /// How often triggers for it have been sent, this one included.
    pub n: u32,
    /// For people who look into a queue.
    pub namespace: String,
    /// For people who look into a queue.
    pub job: String,
}

/// Why a message is not a trigger that this build can act on.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or JSON of another shape.
    #[error("not a trigger message")]
    NotATrigger(#[source] serde_json::Error),
    /// From a newer scheduler than this worker understands.
    #[error("trigger version {0} is newer than the version {NEWEST} that this build reads")]
    Newer(u32),
}

/// Several triggers of one job: the first one, and id and number of each further one.
#[derive(Serialize, Deserialize)]
struct Bundle {
    v: u32,
    id: WorkRequestId,
    n: u32,
    namespace: String,
    job: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more: Vec<(WorkRequestId, u32)>,
}

/// The bytes of one message for triggers of one job and one version. A worker that knows no bundles reads the first alone;
/// the others are found as lost and sent again one by one.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn encode(triggers: &[Trigger]) -> Vec<u8> {
    let (first, more) = triggers.split_first().expect("a message holds a trigger");
    let more = more.iter().map(|trigger| (trigger.id, trigger.n)).collect();
    let Trigger { v, id, n, namespace, job } = first.clone();
    let bundle = Bundle { v, id, n, namespace, job, more };
    serde_json::to_vec(&bundle).expect("a struct of strings and numbers always has a JSON form")
}

/// Reads a message body: one trigger, or several of one job. Fields that this build doesn't know are ignored.
///
/// # Errors
/// [`Malformed`] says what is wrong with the bytes.
pub fn decode(body: &[u8]) -> Result<Vec<Trigger>, Malformed> {
    let Ok(Bundle { v, id, n, namespace, job, more }) = serde_json::from_slice(body) else {
        return Trigger::decode(body).map(|trigger| vec![trigger]);
    };
    if v > NEWEST {
        return Err(Malformed::Newer(v));
    }
    let first = Trigger { v, id, n, namespace, job };
    let others = more.into_iter().map(|(id, n)| Trigger { id, n, ..first.clone() });
    Ok(std::iter::once(first.clone()).chain(others).collect())
}

impl Trigger {
    /// A message that names no work request: it goes through a queue to show that what was before it has come through.
    /// A worker that knows no markers finds nothing to claim.
    #[must_use]
    pub fn marker(now: jiff::Timestamp) -> Self {
        Self { v: VERSION, id: WorkRequestId::new(now), n: 0, namespace: String::new(), job: "reveille.marker".into() }
    }

    /// Whether it is a marker: triggers count from 1.
    #[must_use]
    pub const fn is_marker(&self) -> bool {
        self.n == 0
    }

    /// The bytes to publish.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of strings and numbers always has a JSON form")
    }

    /// Reads a message body. Fields that this build doesn't know are ignored.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with the bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Envelope {
            v: u32,
        }
        let Envelope { v } = serde_json::from_slice(body).map_err(Malformed::NotATrigger)?;
        if v > NEWEST {
            return Err(Malformed::Newer(v));
        }
        serde_json::from_slice(body).map_err(Malformed::NotATrigger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger() -> Trigger {
        Trigger {
            v: VERSION,
            id: WorkRequestId::new(jiff::Timestamp::UNIX_EPOCH),
            n: 3,
            namespace: "a".into(),
            job: "b".into(),
        }
    }

    #[test]
    fn decodes_what_it_encodes_and_ignores_unknown_fields() {
        let mut json: serde_json::Value = serde_json::from_slice(&trigger().encode()).unwrap();
        json["later"] = true.into();
        let read = Trigger::decode(json.to_string().as_bytes()).unwrap();
        assert_eq!((read.n, read.namespace.as_str()), (3, "a"));
    }

    #[test]
    fn a_bundle_is_read_as_its_triggers_and_by_others_as_its_first() {
        let all: Vec<Trigger> = (1..=3).map(|n| Trigger { n, ..trigger() }).collect();
        let bytes = encode(&all);
        assert_eq!(decode(&bytes).unwrap(), all);
        assert_eq!(Trigger::decode(&bytes).unwrap(), all[0]);
        assert_eq!(encode(&all[..1]), all[0].encode(), "one alone looks as it always has");
        assert!(matches!(decode(&bytes[1..]), Err(Malformed::NotATrigger(_))));
    }

    #[test]
    fn tells_garbage_from_a_newer_version() {
        assert!(matches!(Trigger::decode(b"\xff\x00"), Err(Malformed::NotATrigger(_))));
        assert!(matches!(Trigger::decode(b"{\"v\":1}"), Err(Malformed::NotATrigger(_))));
        assert!(matches!(Trigger::decode(b"{\"v\":4,\"strange\":[]}"), Err(Malformed::Newer(4))));
        let newer = Trigger { v: NEWEST + 1, ..trigger() };
        assert!(matches!(decode(&newer.encode()), Err(Malformed::Newer(4))), "although this build could read it");
        let onward = Trigger { v: ONWARD, ..trigger() };
        assert_eq!(decode(&onward.encode()).unwrap(), [onward]);
    }
}
