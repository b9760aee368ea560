//! What every process is told: flags, environment, then a YAML file, in that order of strength.

use std::path::PathBuf;

use clap::Args;

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
