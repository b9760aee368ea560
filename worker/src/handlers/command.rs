//! Runs a program in a process group of its own, never through a shell.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reveille_shared::definition::CommandCall;
use reveille_shared::work_request::Stream;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep_until};

use super::env::Variables;
use super::lines::Lines;
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};

/// How long a program may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long output is read on after the program's end: a process that left its group may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What the program sees of the worker's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];
/// Linux takes no longer text in an environment.
const MAX_VARIABLE: usize = 128 * 1024 - 64;

/// Runs the program to its end, and answers with `{"exitCode": …}`. After a stop the group is sent SIGTERM, then
/// SIGKILL; when the returned future is dropped, SIGKILL at once.
pub(crate) async fn run(call: &CommandCall, run: &Run, variables: &Variables) -> RunResult {
    let mut child = spawn(command(call, run, variables)?, call)?;
    // Declared after the child, hence dropped before it: while the leader is not reaped its number can't be another's.
    let mut group = Group::of(&child);
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(RunFailure::retry("the program has no output pipes").code("Spawn"));
    };
    let (status, stopped) = watch(&mut child, &mut group, Lines::new(stdout), Lines::new(stderr), run).await?;
    if stopped { Err(RunFailure::stopped()) } else { judge(call, status) }
}

/// Everything but starting it.
fn command(call: &CommandCall, run: &Run, variables: &Variables) -> Result<Command, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let Some((program, arguments)) = call.argv.split_first() else {
        return Err(RunFailure::fatal("command is empty").code("InvalidCommand"));
    };
    let mut command = Command::new(program);
    for (index, argument) in arguments.iter().enumerate() {
        command.arg(renderer.template(&format!("command[{}]", index + 1), argument)?);
    }
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = variables.get(name) {
            command.env(name, value);
        }
    }
    let input = run.input.to_string();
    if input.len() > MAX_VARIABLE {
        let told = format!("an input of {} bytes is too large for a program's environment", input.len());
        return Err(RunFailure::fatal(told).code("InputTooLarge"));
    }
    command
        .env("REVEILLE_WORK_REQUEST_ID", run.id.to_string())
        .env("REVEILLE_ATTEMPT", run.attempt.to_string())
        .env("REVEILLE_JOB", &run.job)
        .env("REVEILLE_NAMESPACE", &run.namespace)
        .env("REVEILLE_SCHEDULED_FOR", run.scheduled_for.to_string())
        .env("REVEILLE_INPUT", input);
    for (name, value) in &call.env {
        command.env(name, renderer.text(&format!("env.{name}"), value)?);
    }
    if let Some(folder) = &call.working_dir {
        if !Path::new(folder).is_dir() {
            return Err(RunFailure::fatal(format!("there is no folder {folder:?} here")).code("WorkingDirNotFound"));
        }
        command.current_dir(folder);
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

fn spawn(mut command: Command, call: &CommandCall) -> Result<Child, RunFailure> {
    let program = call.argv.first().map_or("", String::as_str);
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            RunFailure::fatal(format!("there is no program {program:?} here")).code("CommandNotFound")
        }
        _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            RunFailure::fatal(format!("{program:?} is no program")).code("CommandNotExecutable")
        }
        io::ErrorKind::PermissionDenied => {
            RunFailure::fatal(format!("{program:?} may not be executed here")).code("CommandNotExecutable")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            RunFailure::fatal(format!("{program:?} can't be given these arguments: {error}")).code("InvalidCommand")
        }
        _ => RunFailure::retry(format!("can't start {program:?}: {error}")).code("Spawn"),
    })
}

/// Reads the program's output until it has ended, and sees to it that it does. Answers also whether it was told to.
async fn watch(
    child: &mut Child,
    group: &mut Group,
    mut stdout: Lines<ChildStdout>,
    mut stderr: Lines<ChildStderr>,
    run: &Run,
) -> Result<(ExitStatus, bool), RunFailure> {
    let mut ended: Option<ExitStatus> = None;
    let mut stopped = false;
    // SIGKILL after a stop; after the end, the last moment to read.
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(status) = ended
            && !stdout.is_open()
            && !stderr.is_open()
        {
            return Ok((status, stopped));
        }
        let overdue = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Endless output must not keep the other branches from their turn.
            biased;
            () = overdue => match ended {
                Some(status) => return Ok((status, stopped)),
                None => {
                    group.signal(Signal::KILL);
                    deadline = None;
                }
            },
            () = run.stop.cancelled(), if !stopped && ended.is_none() => {
                stopped = true;
                group.signal(Signal::TERM);
                deadline = Some(Instant::now() + TERM_GRACE);
            }
            status = child.wait(), if ended.is_none() => {
                ended = Some(status.map_err(|error| RunFailure::retry(format!("lost sight of the program: {error}")).code("Spawn"))?);
                // What the program left behind in its group ends with it.
                group.finish();
                deadline = Some(Instant::now() + LAST_WORDS);
            }
            lines = stderr.more(), if stderr.is_open() => {
                for line in lines.unwrap_or_default() {
                    run.sink.log(Stream::Stderr, &line).await;
                }
            }
            lines = stdout.more(), if stdout.is_open() => {
                for line in lines.unwrap_or_default() {
                    match progress(&line) {
                        Some((percent, message)) => run.sink.progress(percent, message),
                        None => run.sink.log(Stream::Stdout, &line).await,
                    }
                }
            }
        }
    }
}

/// Reads `::progress 40 copying`.
fn progress(line: &str) -> Option<(f32, Option<&str>)> {
    let rest = line.strip_prefix("::progress ")?.trim();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let percent: f32 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    let message = Some(message.trim()).filter(|message| !message.is_empty());
    (0.0..=100.0).contains(&percent).then_some((percent, message))
}

fn judge(call: &CommandCall, status: ExitStatus) -> RunResult {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        return Err(RunFailure::retry(format!("ended by signal {signal}")).code("Signal"));
    };
    let is_success = if call.success.is_empty() { code == 0 } else { call.success.contains(&code) };
    if is_success {
        return Ok(json!({ "exitCode": code }));
    }
    let failure = RunFailure::retry(format!("exited with code {code}")).code("ExitCode");
    Err(RunFailure { retryable: !call.no_retry.contains(&code), ..failure })
}

/// The program's process group; it is killed when this is dropped, whatever the reason.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Kills what is left. To be called once, right after the leader's end: later its number may be another's.
    fn finish(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // An error says that the group is gone, which is what the signal was for.
            let _gone = kill_process_group(leader, signal).is_err();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use reveille_shared::work_request::LogLine;
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::*;
    use crate::report::Note;
    use crate::report::tests::{lines, run_with};

    fn call(argv: &[&str]) -> CommandCall {
        CommandCall {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            env: BTreeMap::new(),
            working_dir: None,
            success: vec![],
            no_retry: vec![],
        }
    }

    fn variables() -> Variables {
        Variables::of(&[("PATH", &std::env::var("PATH").unwrap()), ("TOKEN", "s3cret"), ("OTHER", "hidden")])
    }

    async fn execute(call: &CommandCall, input: Value) -> (RunResult, mpsc::Receiver<Note>) {
        let (attempt, notes) = run_with(input);
        let result = run(call, &attempt, &variables()).await;
        attempt.sink.close().await;
        (result, notes)
    }

    fn texts(lines: &[LogLine], stream: Stream) -> Vec<&str> {
        lines.iter().filter(|line| line.stream == stream).map(|line| line.text.as_str()).collect()
    }

    /// Waits until a process is gone or waits to be reaped by the machine's first process.
    async fn is_gone(pid: &str) {
        let stat = format!("/proc/{pid}/stat");
        for _ in 0..500 {
            match std::fs::read_to_string(&stat) {
                Ok(text) if !text.contains(") Z ") => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} still lives");
    }

    #[tokio::test]
    async fn sees_its_arguments_and_a_minimal_environment() {
        let mut script = call(&[
            "sh",
            "-c",
            "echo \"$0|$1\"; env | cut -d= -f1 | sort | tr '\\n' ' '; echo \"$A\" >&2",
            "{{ input.day }}",
            "$(id); *",
        ]);
        script.env.insert("A".into(), "{{ attempt }}-${env:TOKEN}".into());
        script.working_dir = Some("/".into());
        let (result, mut notes) = execute(&script, json!({"day": "mon tue"})).await;
        assert_eq!(result, Ok(json!({"exitCode": 0})));
        let lines = lines(&mut notes);
        let out = texts(&lines, Stream::Stdout);
        assert_eq!(out[0], "mon tue|$(id); *", "no shell touches the arguments");
        let names: Vec<_> = out[1].split_whitespace().collect();
        assert!(!names.contains(&"OTHER") && !names.contains(&"TOKEN"), "{names:?}");
        for name in [
            "A",
            "PATH",
            "REVEILLE_ATTEMPT",
            "REVEILLE_INPUT",
            "REVEILLE_JOB",
            "REVEILLE_NAMESPACE",
            "REVEILLE_SCHEDULED_FOR",
            "REVEILLE_WORK_REQUEST_ID",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert_eq!(texts(&lines, Stream::Stderr), ["1-s3cret"]);
    }

    #[tokio::test]
    async fn exit_codes_and_signals_are_told_apart() {
        let mut script = call(&["sh", "-c", "exit 3"]);
        let failure = execute(&script, Value::Null).await.0.unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str(), failure.retryable),
            ("ExitCode", "exited with code 3", true)
        );
        script.no_retry = vec![3];
        assert!(!execute(&script, Value::Null).await.0.unwrap_err().retryable);
        script.success = vec![0, 3];
        assert_eq!(execute(&script, Value::Null).await.0, Ok(json!({"exitCode": 3})));
        let signal = execute(&call(&["sh", "-c", "kill -9 $$"]), Value::Null).await.0.unwrap_err();
        assert_eq!(
            (signal.code.as_str(), signal.message.as_str(), signal.retryable),
            ("Signal", "ended by signal 9", true)
        );
    }

    #[tokio::test]
    async fn what_can_not_start_says_why() {
        let code = async |call: CommandCall, input: Value| {
            let failure = execute(&call, input).await.0.unwrap_err();
            assert!(!failure.retryable, "{failure:?}");
            failure
        };
        let missing = code(call(&["no-such-program"]), Value::Null).await;
        assert!(missing.code == "CommandNotFound" && missing.message.contains("no-such-program"), "{missing:?}");
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&file, "\x01 no program").unwrap();
        let path = file.to_str().unwrap();
        for mode in [0o644, 0o755] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let failure = code(call(&[path]), Value::Null).await;
            assert!(failure.code == "CommandNotExecutable" && failure.message.contains(path), "{mode:o}: {failure:?}");
        }
        let mut elsewhere = call(&["true"]);
        elsewhere.working_dir = Some("/no/such/folder".into());
        assert_eq!(code(elsewhere, Value::Null).await.code, "WorkingDirNotFound");
        assert_eq!(code(call(&["echo", "{{ input }}"]), json!("a\0b")).await.code, "InvalidCommand");
        assert_eq!(code(call(&["true"]), json!("x".repeat(200_000))).await.code, "InputTooLarge");
        assert_eq!(
            code(call(&["echo", "{{ nope }}"]), Value::Null).await.message,
            "command[1] can't be rendered: `nope` is undefined"
        );
        execute(&call(&["true"]), json!("x".repeat(MAX_VARIABLE - 2))).await.0.unwrap();
    }

    #[tokio::test]
    async fn progress_lines_are_no_log() {
        let script = "echo ::progress 40 copying files; echo '::progress 80%'; echo ::progress much; echo ::progress 101; echo ::progress 1 >&2; printf last";
        let (result, mut notes) = execute(&call(&["sh", "-c", script]), Value::Null).await;
        result.unwrap();
        let mut progress = Vec::new();
        let mut printed = Vec::new();
        while let Ok(note) = notes.try_recv() {
            match note {
                Note::Progress(at) => progress.push((at.percent, at.message)),
                Note::Line(_, line) => printed.push(line),
                Note::End(end) => panic!("{end:?}"),
            }
        }
        assert_eq!(progress, [(40.0, Some("copying files".into())), (80.0, None)]);
        assert_eq!(texts(&printed, Stream::Stdout), ["::progress much", "::progress 101", "last"]);
        assert_eq!(texts(&printed, Stream::Stderr), ["::progress 1"]);
    }

    #[tokio::test]
    async fn endless_output_is_drained_and_counted() {
        // 125,000 lines of 31 bytes, of which a line counts as 32.
        let script = call(&["sh", "-c", "yes 0123456789012345678901234567890 | head -c 4000000"]);
        let (attempt, mut notes) = run_with(Value::Null);
        let variables = variables();
        let printing = async {
            let result = run(&script, &attempt, &variables).await;
            attempt.sink.close().await;
            drop(attempt);
            result
        };
        let reading = async {
            let mut lines = Vec::new();
            while let Some(Note::Line(_, line)) = notes.recv().await {
                lines.push(line);
            }
            lines
        };
        let (result, mut lines) = tokio::join!(printing, reading);
        result.unwrap();
        let remark = lines.pop().unwrap();
        assert_eq!((lines.len(), remark.stream), (32_768, Stream::System));
        assert!(remark.text.starts_with("92232 lines ("), "{}", remark.text);
    }

    #[tokio::test]
    async fn a_stop_ends_the_whole_group_even_one_that_ignores_term() {
        // Both the leader and its child ignore SIGTERM; both tell who they are.
        let script = "trap '' TERM; sh -c 'echo $$; while :; do sleep 1; done' & echo $$; while :; do sleep 1; done";
        let (attempt, mut notes) = run_with(Value::Null);
        let stop = attempt.stop.clone();
        let script = call(&["sh", "-c", script]);
        let variables = variables();
        let (result, pids) = tokio::join!(run(&script, &attempt, &variables), async {
            let mut pids = Vec::new();
            while pids.len() < 2 {
                if let Some(Note::Line(_, line)) = notes.recv().await {
                    pids.push(line.text);
                }
            }
            stop.cancel();
            pids
        });
        assert_eq!(result, Err(RunFailure::stopped()));
        for pid in pids {
            is_gone(&pid).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_heeds_term_is_not_taken_for_a_success() {
        let script = call(&["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"]);
        let (attempt, mut notes) = run_with(Value::Null);
        let (stop, variables, start) = (attempt.stop.clone(), variables(), Instant::now());
        let (result, ()) = tokio::join!(run(&script, &attempt, &variables), async {
            notes.recv().await.unwrap();
            stop.cancel();
        });
        assert_eq!(result, Err(RunFailure::stopped()));
        assert!(start.elapsed() < TERM_GRACE);
    }

    #[tokio::test]
    async fn dropping_the_run_kills_the_group() {
        let script = call(&["sh", "-c", "trap '' TERM; sh -c 'echo $$; sleep 100; :' & echo $$; wait"]);
        let (attempt, mut notes) = run_with(Value::Null);
        let variables = variables();
        let mut pids = Vec::new();
        {
            let running = run(&script, &attempt, &variables);
            tokio::pin!(running);
            while pids.len() < 2 {
                tokio::select! {
                    result = &mut running => panic!("{result:?}"),
                    Some(note) = notes.recv() => if let Note::Line(_, line) = note { pids.push(line.text) },
                }
            }
        }
        for pid in pids {
            is_gone(&pid).await;
        }
    }

    #[tokio::test]
    async fn what_outlives_the_leader_is_killed_or_not_waited_for() {
        // One child stays in the group, one leaves it; both hold the pipe open.
        let script = call(&[
            "sh",
            "-c",
            "sh -c 'echo in $$; sleep 20; :' & setsid sh -c 'echo out $$; sleep 20; :' & sleep 0.3; echo done",
        ]);
        let start = Instant::now();
        let (result, mut notes) = execute(&script, Value::Null).await;
        assert_eq!(result, Ok(json!({"exitCode": 0})));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let lines = lines(&mut notes);
        let out = texts(&lines, Stream::Stdout);
        assert!(out.contains(&"done"), "{out:?}");
        is_gone(out.iter().find_map(|line| line.strip_prefix("in ")).unwrap()).await;
        let outside = out.iter().find_map(|line| line.strip_prefix("out ")).unwrap().parse().unwrap();
        kill_process_group(Pid::from_raw(outside).unwrap(), Signal::KILL).unwrap();
    }
}
