//! What every process is told: flags, environment, then a YAML file, in that order of strength.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, Command, Parser};

use crate::definition::{Faults, read_config};
use crate::telemetry::LogFormat;

/// The settings that all processes share.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where the durable truth is: postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "REVEILLE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,

    /// Where the wake-ups go: amqp://USER:PASSWORD@HOST/VHOST, or amqps://…
    #[arg(long, env = "REVEILLE_BROKER_URL", hide_env_values = true, value_name = "URL")]
    pub broker_url: String,

    /// What to log: error, warn, info, debug, trace, or a filter such as reveille_worker=debug,warn
    #[arg(long, env = "REVEILLE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// How logs look: text for people, json for machines, auto by whether standard error is a terminal
    #[arg(long, env = "REVEILLE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// A YAML file of settings, named like the flags with underscores; flags and environment are stronger
    #[arg(long, env = "REVEILLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why a process can't learn its settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags or the environment are wrong, or help was asked for.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The file is.
    #[error(transparent)]
    File(#[from] Faults),
}

/// The process's settings. When they are wrong, or help was asked for, says so and ends the process.
#[must_use]
#[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
pub fn parse<T: Parser>() -> T {
    match parse_from(std::env::args_os()) {
        Ok(settings) => settings,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(ConfigError::File(faults)) => {
            eprintln!("{faults}");
            std::process::exit(2)
        }
    }
}

/// Settings from these arguments (the first is the program's name), then the environment, then the file that `--config`
/// or `REVEILLE_CONFIG` names.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong with the file, or the first thing with the rest.
pub fn parse_from<T: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<T, ConfigError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = T::command();
    if let Some(file) = file_named_in(&arguments).or_else(|| std::env::var_os("REVEILLE_CONFIG").map(PathBuf::from)) {
        let keys: Vec<(String, String)> = command.get_arguments().filter_map(key).collect();
        let known: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        for (key, value) in read_config(&file, &known)? {
            let Some((_, id)) = keys.iter().find(|(known, _)| *known == key) else { continue };
            command = with_default(command, id, value);
        }
    }
    Ok(T::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

/// The weakest value of an argument.
fn with_default(command: Command, id: &str, value: String) -> Command {
    // clap keeps defaults for ever; settings are read once in a process.
    let value: &'static str = value.leak();
    // A secret in the file must not show in the help.
    command.mut_arg(id, |arg| arg.default_value(value).required(false).hide_default_value(true))
}

/// An argument's key in the file, and its id.
fn key(arg: &Arg) -> Option<(String, String)> {
    let long = arg.get_long().filter(|long| !["config", "help", "version"].contains(long))?;
    Some((long.replace('-', "_"), arg.get_id().to_string()))
}

/// The last `--config FILE` or `--config=FILE`. The file must be known before all else can be understood.
fn file_named_in(arguments: &[OsString]) -> Option<PathBuf> {
    let flags = || arguments.iter().take_while(|argument| *argument != "--");
    let apart =
        flags().zip(arguments.iter().skip(1)).filter(|(flag, _)| *flag == "--config").map(|(_, file)| file.into());
    let joined = flags().filter_map(|flag| flag.to_str()?.strip_prefix("--config=").map(PathBuf::from));
    apart.chain(joined).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        common: Common,
        #[arg(long, value_delimiter = ',', default_value = "a,b")]
        roles: Vec<String>,
        #[arg(long, env = "REVEILLE_TEST_OF_CONFIG_SLOTS")]
        slots: Option<u16>,
    }

    fn parsed(file: &str, flags: &[&str]) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reveille.yaml");
        std::fs::write(&path, file).unwrap();
        let arguments = ["program", "--config", path.to_str().unwrap()];
        parse_from(arguments.iter().chain(flags).map(OsString::from))
    }

    const URLS: &str = "database_url: postgres://u:s3cret@h/d\nbroker_url: amqp://h\n";

    #[test]
    fn the_file_gives_what_flags_do_not() {
        let settings = parsed(&format!("{URLS}roles: c,d\nslots: 7\nlog: debug\n"), &["--log", "warn"]).unwrap();
        assert_eq!(settings.common.database_url, "postgres://u:s3cret@h/d");
        assert_eq!((settings.common.log.as_str(), settings.slots), ("warn", Some(7)));
        assert_eq!(settings.roles, ["c", "d"]);
    }

    #[test]
    fn what_neither_gives_is_missing() {
        let Err(ConfigError::Flags(error)) = parsed("broker_url: amqp://h\n", &[]) else { panic!("accepted") };
        assert!(error.to_string().contains("--database-url"), "{error}");
    }

    #[test]
    fn a_faulty_file_is_refused_with_all_its_faults() {
        let Err(ConfigError::File(faults)) = parsed("databse_url: x\nroles: [a]\n", &[]) else { panic!("accepted") };
        assert_eq!(faults.len(), 2, "{faults}");
        assert!(faults.to_string().contains("database_url"), "{faults}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        let refused = parsed(&format!("{URLS}slots: many\n"), &[]);
        assert!(matches!(refused, Err(ConfigError::Flags(_))), "{refused:?}");
    }

    #[test]
    fn help_shows_no_secret_of_the_file() {
        let Err(ConfigError::Flags(help)) = parsed(URLS, &["--help"]) else { panic!("no help") };
        assert!(!help.to_string().contains("s3cret"), "{help}");
    }
}
