//! Schedule files as users write them, right and wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod faults;
mod files;
mod json_schema;
mod limits;
mod properties;
mod schema_check;

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
