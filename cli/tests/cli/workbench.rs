//! A folder of a test's own, and the binary run in it. What went wrong is told in full.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that takes seconds at most on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Workbench {
    folder: TempDir,
}

/// What a command has done.
pub(crate) struct Done {
    command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit code: {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Workbench {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::with_prefix("reveille-cli-").unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with arguments that spaces separate.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
        command.args(arguments.split_whitespace()).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REVEILLE_") {
                command.env_remove(name);
            }
        }
        command.env("TZ", "UTC");
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Done {
        run(self.command(arguments), "")
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, stdin: &str) -> Done {
    let text = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    // Who does not read its input may have ended before this.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Done { command: text, code: output.status.code(), stdout: text_of(output.stdout), stderr: text_of(output.stderr) }
}

impl Done {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn never_says(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "there is {text:?} in\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

/// `reveille dev` under test. Dropped, it ends at once with all that it has started.
pub(crate) struct Dev {
    child: Child,
    pub(crate) banner: String,
    pub(crate) address: SocketAddr,
}

impl Dev {
    /// Starts it on a free port and waits until it says that it is up.
    pub(crate) fn start(bench: &Workbench, arguments: &str) -> Self {
        let mut command = bench.command(&format!("dev --listen 127.0.0.1:0 {arguments}"));
        let log = std::fs::File::options().create(true).append(true).open(bench.path().join("dev.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).process_group(0).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                let status = child.wait().unwrap();
                let log = std::fs::read_to_string(bench.path().join("dev.log")).unwrap();
                panic!("dev ended with {status} before it was up\n{banner}\n{log}");
            };
            banner.push_str(&line);
            banner.push('\n');
            // The last line that it prints for people.
            if line.contains(" next ") || line.contains(" check ") {
                break;
            }
        }
        let address = banner.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        Self { child, banner, address }
    }

    pub(crate) fn server(&self) -> String {
        format!("--server http://{}", self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        eventually(LIMIT, || self.child.try_wait().unwrap().ok_or_else(|| "dev has not ended".to_owned()))
    }
}

impl Drop for Dev {
    /// The second signal makes it end its runs at once: killed, it could not.
    fn drop(&mut self) {
        let begun = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            let signal = if begun.elapsed() < Duration::from_secs(15) { Signal::TERM } else { Signal::KILL };
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Asks until the answer is there, with a long limit, and tells what was seen last.
#[track_caller]
pub(crate) fn eventually<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) => assert!(begun.elapsed() < limit, "not within {limit:?}; at last: {last}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A port that a listener of this test holds.
pub(crate) fn taken_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
