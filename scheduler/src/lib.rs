//! The scheduler: definitions and the clock → work requests → triggers on the broker. In reading order:
//!
//! - [`app`]: settings, and which parts run together.
//! - [`definitions`]: pass: the folder of definitions → what is in force.
//! - [`definition_plan`]: what files of definitions would change. Pure.
//! - [`plan`]: the only way in which a work request is born. Pure.
//! - [`planner`]: pass: schedules that are due → decisions and work requests.
//! - [`follow_up`]: pass: runs that have ended → chained runs, held fires, backfills; `children`: and those that they are
//!   the children of.
//! - [`explain`]: what became, or will become, of an instant of a schedule, in words. Pure.
//! - [`dispatch`]: due triggers → the broker. The only publisher.
//! - [`window`]: how many of them may be with it, so that tenants have their turns.
//! - [`reconcile`]: pass: dead workers, overdue attempts → their runs go on elsewhere, or end.
//! - [`dead_letters`]: what the broker gave up on → sent again, or an end with a reason.
//! - [`events_in`]: what workers in other languages tell → the store.
//! - [`leader`]: which of several schedulers plans; [`probe`]: is the database there, do the clocks agree?
//! - [`announce`]: pass: what has happened → the broker; [`webhooks`]: → whoever has it posted.
//! - `queued`: how much of each namespace waits, and how much may.
//! - [`housekeeping`]: the ticking engine that nudges the passes.
//! - [`status`], [`telemetry`]: what an operator is told.
//! - [`api`]: what callers ask and are answered, and the dashboard over it.

pub mod announce;
pub mod api;
pub mod app;
mod backlog;
mod bundle;
mod children;
mod dashboard;
pub mod dead_letters;
pub mod definition_plan;
pub mod definitions;
pub mod dispatch;
pub mod events_in;
pub mod explain;
pub mod follow_up;
pub mod handover;
pub mod housekeeping;
mod jobs;
pub mod leader;
mod lost;
pub mod plan;
pub mod planner;
pub mod probe;
mod queued;
pub mod reconcile;
mod reminder;
pub mod status;
pub mod telemetry;
mod transition;
mod unpublished;
pub mod webhooks;
pub mod window;
