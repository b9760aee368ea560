//! The guard: this very program run once more, between a worker and a program that it runs, so that the program dies with
//! its worker, be that killed, frozen or wedged.
//!
//! Worker and guard speak over a socket pair ([`line`]). The guard ([`keeper`]) starts the program in a process group of
//! its own and kills it, with all that descends from it, when the socket closes or when the time is over for which the
//! worker has last allowed it to live. The worker ([`guarded`]) kills the program if the guard is killed. Both at
//! once can only be killed by who means the program too, such as a service manager that ends the whole unit.
//!
//! A program with limits, or of another user, gets them ([`confinement`]) in a process of its own ([`launch`]) before it
//! begins.

mod confinement;
mod guarded;
mod keeper;
mod launch;
mod line;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(crate) use self::confinement::Confinement;
pub(crate) use self::guarded::{End, Guarded, Output, Program, Said, StartError};
pub(crate) use self::line::Order;

/// The first argument of a program that is to be a guard.
const ARGUMENT: &str = "reveille-guard";

/// The program to run as a guard: proof that it answers when it is.
///
/// [`crate::main`] gets it by itself. A program that embeds [`crate::app::start`] calls [`Guard::answer`] as the first
/// thing in its `main` and hands over what that returns:
///
/// ```no_run
/// let guard = reveille_worker::Guard::answer();
/// // Only now: arguments, logging, the runtime.
/// ```
#[derive(Debug, Clone)]
pub struct Guard(PathBuf);

impl Guard {
    /// If this process was started to be a guard, is one, and ends when it is done. To be called before anything else: the
    /// process has the arguments of the program that it guards.
    #[must_use]
    pub fn answer() -> Self {
        let mut arguments = std::env::args_os().skip(1);
        match arguments.next() {
            Some(first) if first == OsStr::new(ARGUMENT) => keeper::run(arguments),
            Some(first) if first == OsStr::new(launch::ARGUMENT) => launch::run(arguments),
            _ => {}
        }
        // Not the path: another version may be there by now.
        Self("/proc/self/exe".into())
    }

    /// Another program that answers, such as `reveille-worker`.
    #[must_use]
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self(program.into())
    }

    fn program(&self) -> &Path {
        &self.0
    }
}
