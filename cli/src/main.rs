//! `reveille`: the command line of Reveille, and all of it in one process with `reveille dev`.
//!
//! - [`commands`]: a file per command; each takes its arguments and answers how the process is to exit.
//! - [`client`]: the REST interface of a scheduler; [`view`]: what is read from its answers.
//! - [`output`]: tables and times for people, JSON for machines; [`progress`]: bars.
//! - [`moment`]: times as people write them; [`upcoming`]: due times that exclusions leave over; [`actor`]: who does it.
//! - [`failure`]: what can go wrong, how it is told, and the exit code.
//! - [`dev`]: scheduler and worker in one process.

mod actor;
mod client;
mod commands;
mod dev;
mod failure;
mod moment;
mod output;
mod progress;
mod upcoming;
mod view;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use reveille_worker::Guard;

use self::failure::{EXIT_CODES, Exit, Failure};
use self::output::Output;

/// Distributed job scheduler: jobs run when they are due, or when you say so, and their history tells what happened
#[derive(Debug, Parser)]
#[command(name = "reveille", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

/// What all commands understand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
struct Global {
    /// The scheduler to talk to
    #[arg(long, global = true, env = "REVEILLE_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    #[arg(value_parser = client::server)]
    server: reqwest::Url,

    /// The API key; better in the environment than here, where others on this machine can see it
    #[arg(long, global = true, env = "REVEILLE_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,

    /// Who vouches for a server with https, instead of those whom the system trusts: a PEM file
    #[arg(long, global = true, env = "REVEILLE_CA_CERT", value_parser = client::authorities, value_name = "FILE")]
    ca_cert: Option<client::Authorities>,

    /// Whose jobs and schedules [default: that of the key, or default]
    #[arg(long, global = true, env = "REVEILLE_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Print JSON for machines instead of text for people
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in this one process: scheduler, worker, API and dashboard
    Dev(dev::Arguments),
    /// Check schedule files and print every fault with its line
    Check(commands::check::Arguments),
    /// Print the JSON Schema of schedule files, for editors
    Schema,
    /// Show what would change if schedule files were applied
    Plan(commands::plan::Arguments),
    /// Put schedule files in force
    Apply(commands::apply::Arguments),
    /// Tell when a schedule is due next
    Next(commands::next::Arguments),
    /// Run a job, or all jobs of a schedule, now
    Trigger(commands::trigger::Arguments),
    /// Run again what an earlier run did, or those of its children that did not succeed
    Retry(commands::retry::Arguments),
    /// List runs, newest first
    Runs(commands::runs::Arguments),
    /// Show a run: its facts, its history and its output
    Show(commands::show::Arguments),
    /// Print what a run has printed
    Logs(commands::logs::Arguments),
    /// Cancel a run, or many at once
    Cancel(commands::cancel::Arguments),
    /// List jobs
    Jobs(commands::jobs::Arguments),
    /// List schedules with their next and last due times
    Schedules(commands::schedules::Arguments),
    /// Pause a schedule: its due times are skipped until it is resumed
    Pause(commands::pause::Arguments),
    /// End the pause of a schedule
    Resume(commands::pause::Arguments),
    /// Say what happened at an instant, or will happen, and why
    Explain(commands::explain::Arguments),
    /// Run what was due in a range of the past
    Backfill(commands::backfill::Arguments),
    /// Make, list, revoke and rotate API keys
    Keys(commands::keys::Arguments),
    /// Tell who changed a job or a schedule, when and why
    History(commands::history::Arguments),
    /// Look for what is wrong and say what to do
    Doctor(commands::doctor::Arguments),
}

fn main() -> ExitCode {
    // A worker runs in `dev`, and this program is what guards its commands.
    start(Guard::answer())
}

#[tokio::main]
async fn start(guard: Guard) -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    let mut output = Output::new(global.json);
    match run(command, guard, &global, &mut output).await.and_then(|exit| output.finish().map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command, guard: Guard, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = || {
        let Global { server, ca_cert, namespace, key, .. } = global;
        client::Client::new(server.clone(), ca_cert.clone(), namespace.clone(), key.as_deref())
    };
    match command {
        Command::Dev(arguments) => Box::pin(dev::run(arguments, guard, output)).await,
        Command::Check(arguments) => commands::check::run(&arguments, client, output).await,
        Command::Schema => commands::schema::run(output),
        Command::Plan(arguments) => commands::plan::run(&arguments, client, output).await,
        Command::Apply(arguments) => commands::apply::run(&arguments, client, output).await,
        Command::Next(arguments) => commands::next::run(arguments, client, global.namespace.as_deref(), output).await,
        Command::Trigger(arguments) => commands::trigger::run(arguments, &client()?, output).await,
        Command::Retry(arguments) => commands::retry::run(&arguments, &client()?, output).await,
        Command::Runs(arguments) => commands::runs::run(arguments, &client()?, output).await,
        Command::Show(arguments) => commands::show::run(&arguments, &client()?, output).await,
        Command::Logs(arguments) => commands::logs::run(&arguments, &client()?, output).await,
        Command::Cancel(arguments) => commands::cancel::run(&arguments, &client()?, output).await,
        Command::Jobs(arguments) => commands::jobs::run(&arguments, &client()?, output).await,
        Command::Schedules(arguments) => commands::schedules::run(&arguments, &client()?, output).await,
        Command::Pause(arguments) => commands::pause::pause(&arguments, &client()?, output).await,
        Command::Resume(arguments) => commands::pause::resume(&arguments, &client()?, output).await,
        Command::Explain(arguments) => commands::explain::run(&arguments, &client()?, output).await,
        Command::Backfill(arguments) => commands::backfill::run(arguments, &client()?, output).await,
        Command::Keys(arguments) => commands::keys::run(&arguments, client, global.namespace.as_deref(), output).await,
        Command::History(arguments) => commands::history::run(&arguments, &client()?, output).await,
        Command::Doctor(commands::doctor::Arguments {}) => commands::doctor::run(&client()?, output).await,
    }
}
