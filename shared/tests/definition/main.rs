//! Schedule files as users write them, right and wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod calendars;
mod chains;
mod external;
mod fan_out;
mod faults;
mod files;
mod follow;
mod json_schema;
mod keys;
mod limits;
mod properties;
mod reader;
mod schedules;
mod schema_check;
mod ssh;
mod templates;
mod verify;

use reveille_shared::definition::{Definitions, Faults, read_texts};

fn read(text: &str) -> Result<Definitions, Faults> {
    read_texts(&[("a.yaml".to_owned(), text.to_owned())])
}

fn faults(text: &str) -> Faults {
    read(text).expect_err(text)
}

fn read_named<const N: usize>(texts: [(&str, &str); N]) -> Result<Definitions, Faults> {
    read_texts(&texts.map(|(name, text)| (name.to_owned(), text.to_owned())))
}

/// The faults of each text, one text after the other.
fn report(cases: &[(&str, &str)]) -> String {
    let told = cases.iter().map(|(title, text)| format!("── {title}\n{}\n\n", faults(text)));
    told.collect()
}
