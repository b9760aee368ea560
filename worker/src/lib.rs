//! The worker: takes triggers, claims their work requests, runs the business logic and reports how it ended.
//!
//! In the order in which a run passes through:
//!
//! - `consume`: delivery → free slot → claim → ack; `flow` decides how many deliveries to ask for.
//! - `claim`: many claims in one commit; a lease with its fencing token for each.
//! - `execute`: one attempt under its time-out, its token and a catch of panics → a closed set of outcomes.
//! - `children`: what a run hands over to become its children.
//! - [`handlers`]: HTTP calls, commands, and the Rust functions of a program that uses this crate.
//! - [`Guard`]: what a command runs under, so that it dies with its worker.
//! - [`Policy`]: which of all that this worker may run.
//! - `report`: outcomes, progress and lines → store, in batches.
//! - `heartbeat`, `runs`: what runs here, compared with what the store knows; `isolation`: what becomes of it when the
//!   store can't be reached; `lease`: the times that follow from how long a lease lives.
//! - [`app`]: wiring; `status`: the endpoint for probes and metrics.
//!
//! A program with functions of its own needs no more than its `main`; see `examples/rust_worker.rs`:
//!
//! ```no_run
//! use reveille_worker::{Functions, Run};
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     let functions = Functions::builder()
//!         .register("greet", |run: Run| async move { Ok(format!("hello from {}", run.job).into()) })
//!         .build()
//!         .expect("one function has no namesake");
//!     reveille_worker::main(functions).await
//! }
//! ```

pub mod app;
mod children;
mod claim;
mod consume;
mod execute;
mod flow;
mod guard;
pub mod handlers;
mod handover;
mod heartbeat;
mod isolation;
mod lease;
mod outcome;
mod policy;
mod report;
mod runs;
mod status;

pub use reveille_shared::work_request::Stream;

pub use self::app::main;
pub use self::guard::Guard;
pub use self::handlers::{Functions, Run, RunFailure, RunResult};
pub use self::policy::{Policy, PolicyError, Refused};
pub use self::status::Readiness;
