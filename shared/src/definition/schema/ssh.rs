//! The keys of a command on another host.

use super::super::text::Text;
use super::job::{ARGV, ENVIRONMENT, EXIT_CODES};
use super::{DURATION, Object, PLAIN, Shape, key, required};

pub(super) static SSH: Object = Object {
    name: "ssh",
    keys: &[
        required("host", Shape::Text(Text::Host), "The host; may hold {{ templates }}"),
        key("port", Shape::Integer { min: 1, max: 65_535 }, "Default: 22"),
        required("user", Shape::Text(Text::User), "The user on the host"),
        required(
            "command",
            Shape::Either { shapes: &[ARGV, Shape::Text(Text::Shell)], hint: HOW_TO_COMMAND },
            "[program, argument, …], which no shell touches, or one text for /bin/sh of the host",
        ),
        key(
            "env",
            ENVIRONMENT,
            "Added to the command's environment; ${env:NAME} is resolved on the worker and never stored",
        ),
        key("working_dir", Shape::Text(Text::Folder), "The folder of the host to run in"),
        key("identity_file", FILE, "The private key, a file of the worker. Default: the worker's SSH agent"),
        key("passphrase", Shape::Text(Text::Reference), "Opens the private key: ${env:NAME} of the worker"),
        key(
            "known_hosts",
            FILE,
            "Keys of hosts, a file of the worker. Default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts there",
        ),
        key("connect_timeout", DURATION, "How long it may take until the command has begun. Default: 10s"),
        key("idle_timeout", DURATION, "How long the command may print nothing. Default: as long as it runs"),
        key("success", EXIT_CODES, "Exit codes that mean success. Default: 0"),
        key("no_retry", EXIT_CODES, "Exit codes after which a retry is pointless"),
    ],
    later: &["proxy_jump", "stdin"],
    instead: &[
        ("argv", "write `command`: a list of program and arguments, or one text for the host's shell"),
        ("timeout", "write it in the job, beside `ssh`; `connect_timeout` and `idle_timeout` belong here"),
        ("password", "keys alone open connections: write `identity_file`, or give the worker an SSH agent"),
        ("identity", "write `identity_file`, the path of a private key on the worker"),
        ("strict_host_key_checking", "remove it: hosts are always checked; `known_hosts` names the file of their keys"),
    ],
    ..PLAIN
};

const FILE: Shape = Shape::Text(Text::File);

const HOW_TO_COMMAND: &str = "write a list, or one text for the host's shell";
