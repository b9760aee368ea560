//! A file per command. Each writes its result to [`crate::output::Output`] and answers how the process is to exit.

pub(crate) mod apply;
pub(crate) mod backfill;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod next;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod retry;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod show;
pub(crate) mod trigger;
mod wait;
