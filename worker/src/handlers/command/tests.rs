//! Programs as handlers, each under a real guard.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use reveille_shared::work_request::LogLine;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::handlers::env::MAX_VARIABLE;
use crate::report::Note;
use crate::report::tests::{lines, run_with};

pub(super) fn call(argv: &[&str]) -> CommandCall {
    CommandCall {
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: BTreeMap::new(),
        working_dir: None,
        success: vec![],
        no_retry: vec![],
    }
}

pub(super) fn variables() -> Variables {
    Variables::of(&[("PATH", &std::env::var("PATH").unwrap()), ("TOKEN", "s3cret"), ("OTHER", "hidden")])
}

/// Guards of this crate's own program, that let programs live for a minute.
pub(in crate::handlers) fn guards() -> Guards {
    let here = std::env::current_exe().unwrap();
    // A test is target/PROFILE/deps/NAME.
    let program = here.ancestors().nth(2).unwrap().join("reveille-worker");
    assert!(program.exists(), "build {} first: cargo build -p reveille-worker", program.display());
    let (_told_once, lease) = watch::channel(Instant::now() + Duration::from_secs(60));
    Guards { guard: Guard::of(program), lease, policy: Policy::default() }
}

async fn execute(call: &CommandCall, input: Value) -> (RunResult, mpsc::Receiver<Note>) {
    let (attempt, notes) = run_with(input);
    let result = run(call, &attempt, &variables(), &guards()).await;
    attempt.sink.close().await;
    (result, notes)
}

pub(super) fn texts(lines: &[LogLine], stream: Stream) -> Vec<&str> {
    lines.iter().filter(|line| line.stream == stream).map(|line| line.text.as_str()).collect()
}

/// Waits until a process is gone or waits to be reaped by the machine's first process.
pub(super) async fn is_gone(pid: &str) {
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
    let (result, notes) = flooded("yes 0123456789012345678901234567890 | head -c 4000000").await;
    result.unwrap();
    let lines = notes.into_iter().map_while(|note| if let Note::Line(_, line) = note { Some(line) } else { None });
    let mut lines: Vec<_> = lines.collect();
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
    let (variables, guards) = (variables(), guards());
    let (result, pids) = tokio::join!(run(&script, &attempt, &variables, &guards), async {
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
    let (stop, start) = (attempt.stop.clone(), Instant::now());
    let (variables, guards) = (variables(), guards());
    let (result, ()) = tokio::join!(run(&script, &attempt, &variables, &guards), async {
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
    let (variables, guards) = (variables(), guards());
    let mut pids = Vec::new();
    {
        let running = run(&script, &attempt, &variables, &guards);
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
async fn what_outlives_the_leader_is_killed_and_not_waited_for() {
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
    for child in ["in ", "out "] {
        is_gone(out.iter().find_map(|line| line.strip_prefix(child)).unwrap()).await;
    }
}

/// Runs a script whose output is read by nobody but the test, and answers with all its notes.
async fn flooded(script: &str) -> (RunResult, Vec<Note>) {
    let (attempt, mut notes) = run_with(Value::Null);
    let (variables, guards, script) = (variables(), guards(), call(&["sh", "-c", script]));
    let printing = async {
        let result = run(&script, &attempt, &variables, &guards).await;
        attempt.sink.close().await;
        drop(attempt);
        result
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(note) = notes.recv().await {
            all.push(note);
        }
        all
    };
    tokio::join!(printing, reading)
}

#[tokio::test]
async fn a_gigabyte_is_drained_and_hides_no_progress() {
    let script = "head -c 1000000000 /dev/zero; echo; yes | head -c 20000000; echo ::progress 90 nearly";
    let (result, notes) = flooded(script).await;
    result.unwrap();
    let [Note::Line(_, first), .., Note::Progress(progress), Note::Line(_, last)] = &notes[..] else {
        panic!("{:?}", notes.last())
    };
    assert_eq!(first.text.chars().find(|char| *char != '\u{fffd}'), None, "NULs can't be kept");
    assert_eq!((progress.percent, progress.message.as_deref()), (90.0, Some("nearly")));
    // Of 1 MiB, the first line took 8 KiB and each of the others counts as 32 bytes.
    let kept = notes.len() - 3;
    assert!((32_000..32_768).contains(&kept), "{kept}");
    assert!(last.text.starts_with(&format!("{} lines (", 10_000_000 - kept)), "{}", last.text);
}

#[tokio::test]
async fn a_flood_keeps_no_stop_away() {
    let (attempt, mut notes) = run_with(Value::Null);
    let (stop, start) = (attempt.stop.clone(), Instant::now());
    let (variables, guards, script) = (variables(), guards(), call(&["sh", "-c", "yes & yes >&2 & wait"]));
    let (result, ()) = tokio::join!(run(&script, &attempt, &variables, &guards), async {
        notes.recv().await.unwrap();
        stop.cancel();
    });
    assert_eq!(result, Err(RunFailure::stopped()));
    assert!(start.elapsed() < TERM_GRACE, "{:?}", start.elapsed());
}
