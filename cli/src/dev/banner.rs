//! What people read when `reveille dev` is up: where to look and what to try.

use std::net::SocketAddr;
use std::path::Path;

use reveille_shared::definition::{Definitions, Job};

/// What the text tells of.
pub(super) struct Scene<'a> {
    pub(super) address: SocketAddr,
    pub(super) data: &'a Path,
    pub(super) schedules: &'a Path,
    /// What the files say, unless they have faults.
    pub(super) definitions: Option<&'a Definitions>,
}

impl Scene<'_> {
    pub(super) fn text(&self) -> String {
        let Self { address, data, schedules, definitions } = self;
        let (data, schedules) = (data.display(), schedules.display());
        let defined = match definitions {
            Some(Definitions { jobs, schedules: list, .. }) => format!(
                "{} schedules and {} jobs from {schedules}; what you save there is in force at once",
                list.len(),
                jobs.len()
            ),
            None => format!("those of before, as {schedules} has faults; what you mend there is in force at once"),
        };
        let commands = self.commands().map(|command| format!("  {command}\n")).collect::<String>();
        format!(
            "\nReveille is up: everything runs in this one process, until Ctrl-C.\n\n  \
             Dashboard  http://{address}/\n  \
             Schedules  {defined}\n  \
             State      in {data}, kept when Reveille restarts\n  \
             Access     this machine only, without keys\n{}\n\
             Try in another terminal:\n\n{commands}\n",
            self.external()
        )
    }

    fn jobs(&self) -> &[Job] {
        self.definitions.map(|definitions| definitions.jobs.as_slice()).unwrap_or_default()
    }

    /// A word on jobs that nobody will run here.
    fn external(&self) -> String {
        let mut jobs = self.jobs().iter().filter(|job| job.handler.is_external());
        let Some(first) = jobs.next() else { return String::new() };
        let others = match jobs.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "  External   {}{others}: their runs wait, as workers in other languages need RabbitMQ, which is not part of this\n",
            first.name
        )
    }

    fn commands(&self) -> impl Iterator<Item = String> {
        let program = program();
        let server = match self.address.to_string().as_str() {
            "127.0.0.1:8080" => String::new(),
            address => format!(" --server http://{address}"),
        };
        let namespace = |namespace: &str| match namespace {
            "default" => String::new(),
            other => format!(" --namespace {other}"),
        };
        // The sample that shows how far it is, if it is there.
        let jobs = self.jobs();
        let job = jobs.iter().find(|job| job.name == "three-steps").or(jobs.first());
        let trigger = job.map(|job| format!("trigger {} --wait{}", job.name, namespace(&job.namespace)));
        let schedule = self.definitions.and_then(|definitions| definitions.schedules.first());
        let next = schedule.map(|schedule| format!("next {}{}", schedule.name, namespace(&schedule.namespace)));
        let list = ["schedules", "runs"]
            .map(|list| Some(format!("{list}{}", job.map_or(String::new(), |job| namespace(&job.namespace)))));
        let [schedules, runs] = list;
        let check = self.definitions.is_none().then(|| format!("check {}", self.schedules.display()));
        [schedules, trigger, runs, next, check]
            .into_iter()
            .flatten()
            .map(move |command| format!("{program} {command}{server}"))
    }
}

/// How people call this program from here: by its name if that is found, else by its path.
fn program() -> String {
    let Ok(me) = std::env::current_exe() else { return "reveille".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("reveille")).find(|file| file.is_file());
    if found.and_then(|file| file.canonicalize().ok()) == me.canonicalize().ok() {
        return "reveille".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    me.strip_prefix(&here).unwrap_or(&me).display().to_string()
}
