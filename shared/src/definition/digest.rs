//! Definitions → a fingerprint of their content.

use serde::Serialize;

use super::model::Definitions;

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

/// Of one item's JSON form, in which members always stand in the same order.
fn one(item: &impl Serialize, json: &mut Vec<u8>) -> blake3::Hash {
    json.clear();
    serde_json::to_writer(&mut *json, item).expect("every key is a text, and writing to memory doesn't fail");
    blake3::hash(json)
}
