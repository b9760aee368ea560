//! `reveille schema`

use reveille_shared::definition::json_schema;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints the JSON Schema of schedule files.
pub(crate) fn run(output: &mut Output) -> Result<Exit, Failure> {
    output.document(&json_schema())?;
    Ok(Exit::Done)
}
