//! Scripts that real shells read, without a host.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::*;
use crate::handlers::env::Variables;
use crate::report::tests::run_with;

fn call(command: RemoteCommand) -> SshCall {
    let call = json!({ "host": "h", "user": "u", "command": command });
    serde_json::from_value(call).unwrap()
}

fn script(call: &SshCall) -> Script {
    let (run, _notes) = run_with(json!({"n": 7}));
    let variables = Variables::of(&[("TOKEN", "s3'cret")]);
    Script::of(call, &run, &Renderer::new(&run, &variables)).unwrap()
}

/// Lets the login shell do what it does for a host.
fn perform(script: &Script, shell: &str) -> Output {
    let mut child = Command::new("setsid")
        .args(["--wait", "sh", "-c", &SHELL.replace("/bin/sh", shell)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = child.stdin.take().unwrap();
    line.write_all(script.text(Duration::from_secs(60)).as_bytes()).unwrap();
    let ended = child.wait().unwrap();
    // Only now, as it ends what still runs.
    drop(line);
    Output { status: ended, ..child.wait_with_output().unwrap() }
}

fn shells() -> impl Iterator<Item = &'static str> {
    ["/bin/sh", "/bin/bash"].into_iter().filter(|shell| std::path::Path::new(shell).exists())
}

#[test]
fn a_shell_hands_on_what_it_is_given() {
    let odd = [
        "", " ", "'", "''", "\"", "\\", "\\n", "a\nb", "$HOME", "`id`", "$(id)", "*", "~", "!!", "ä", "-n", "#x", ";",
        "&",
    ];
    let mut argv = vec!["printf".to_owned(), "[%s]".to_owned()];
    argv.extend(odd.map(str::to_owned));
    let script = script(&call(RemoteCommand::Argv(argv)));
    for shell in shells() {
        let output = perform(&script, shell);
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        let (first, rest) = printed.split_once('\n').unwrap();
        assert_eq!(script.said(first), Some(Said::Begun));
        assert_eq!(rest, odd.map(|text| format!("[{text}]")).concat(), "{shell}");
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    }
}

#[test]
fn the_environment_and_the_folder_are_set() {
    let text = "printf %s \"$A|$REVEILLE_ATTEMPT|$REVEILLE_INPUT|$PWD\"; exit 9";
    let env = BTreeMap::from([("A".to_owned(), "{{ input.n }}-${env:TOKEN}".to_owned())]);
    let call = SshCall { env, working_dir: Some("/usr".into()), ..call(RemoteCommand::Shell(text.into())) };
    for shell in shells() {
        let output = perform(&script(&call), shell);
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(printed.lines().nth(1), Some("7-s3'cret|1|{\"n\":7}|/usr"), "{shell}");
        assert_eq!(output.status.code(), Some(9));
    }
}

#[test]
fn what_is_missing_is_said_before_anything_runs() {
    let elsewhere = SshCall { working_dir: Some("/no/such".into()), ..call(RemoteCommand::Shell("true".into())) };
    let nothing = call(RemoteCommand::Argv(vec!["no-such-program".into()]));
    for (call, said) in [(elsewhere, Said::NoFolder), (nothing, Said::NoProgram)] {
        let script = script(&call);
        let output = perform(&script, "/bin/sh");
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(printed.lines().map(|line| script.said(line)).collect::<Vec<_>>(), [Some(said)]);
    }
}

#[test]
fn nobody_else_can_say_that_it_has_begun() {
    let script = script(&call(RemoteCommand::Shell("true".into())));
    for line in ["", "begun", "0123 begun", &format!("{} x", script.mark)] {
        assert_eq!(script.said(line), None);
    }
    assert_eq!(quoted("a\0b").unwrap_err().code, "InvalidCommand");
}

/// As a server does it that starts commands in its own group.
#[test]
fn a_command_that_leads_no_group_is_given_one() {
    let text = "ps -o pid= -o pgid= -p $$";
    let script = script(&call(RemoteCommand::Shell(text.into())));
    let mut child =
        Command::new("sh").args(["-c", SHELL]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = child.stdin.take().unwrap();
    line.write_all(script.text(Duration::from_secs(60)).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    drop(line);
    let printed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let ids: Vec<_> = printed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "{printed}");
}
