//! A private PostgreSQL server: own port on the loopback, own data in a temporary folder, gone on drop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::certificates::Pair;
use crate::ports::Port;
use crate::process::{Process, Program, tail};
use crate::process_tree::kill_tree;
use crate::wait::eventually;

/// Names a folder made by [`Template::create`], from which servers are copied instead of set up anew.
pub const TEMPLATE_VARIABLE: &str = "REVEILLE_TEST_POSTGRES_TEMPLATE";

/// The superuser, whose password is random.
const USER: &str = "reveille";

/// How long a server may take to start, also after a crash, or to stop.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that is set up but not started: `data/` and the superuser's `password`.
#[derive(Debug)]
pub struct Template {
    folder: TempDir,
}

impl Template {
    /// Sets up a server. It takes about a second, copying it a tenth.
    ///
    /// # Errors
    /// PostgreSQL isn't installed, or refuses.
    pub fn create() -> Result<Self> {
        let folder = folder()?;
        let password = folder.path().join("password");
        std::fs::write(&password, Uuid::new_v4().simple().to_string())?;
        own(&password)?;
        let mut initdb = as_ordinary_user(&bin()?.join("initdb"));
        initdb.args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(folder.path().join("data"));
        run(&mut initdb)?;
        Ok(Self { folder })
    }

    /// The folder, for [`TEMPLATE_VARIABLE`].
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn copy(from: &Path) -> Result<Self> {
        let folder = folder()?;
        let mut copy = as_ordinary_user(Path::new("cp"));
        run(copy.arg("-a").arg(from.join("data")).arg(from.join("password")).arg(folder.path()))?;
        Ok(Self { folder })
    }
}

/// One server that runs, or was killed and can be started again with its data.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    program: Program,
    port: Port,
    password: String,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// PostgreSQL isn't installed, or doesn't start; the text holds the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| Ok(Vec::new())).await
    }

    /// As [`Postgres::start`]; whoever asks for it is shown this certificate.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn start_over_tls(pair: &Pair) -> Result<Self> {
        Self::start_with(|folder| {
            let (cert, key) = pair.write(folder)?;
            own(&cert)?;
            own(&key)?;
            let files = [format!("ssl_cert_file={}", cert.display()), format!("ssl_key_file={}", key.display())];
            Ok(["ssl=on".to_owned()].into_iter().chain(files).collect())
        })
        .await
    }

    /// With the settings that are made once its folder is there.
    async fn start_with(settings: impl FnOnce(&Path) -> Result<Vec<String>>) -> Result<Self> {
        let template = match std::env::var_os(TEMPLATE_VARIABLE) {
            Some(folder) => Template::copy(Path::new(&folder))?,
            None => Template::create()?,
        };
        let folder = template.folder;
        let port = Port::claim()?;
        let password = std::fs::read_to_string(folder.path().join("password"))?;
        let program = server(folder.path(), port.number(), settings(folder.path())?)?;
        let mut postgres = Self { process: None, program, port, password, folder };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// Where and as whom to connect to the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where and as whom to connect to the database of this name.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@{}/{database}", self.password, self.port.address())
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Creates an empty database and gives its URL.
    ///
    /// # Errors
    /// The server doesn't answer, or refuses.
    pub async fn create_database(&self) -> Result<String> {
        create_database(&self.url()).await
    }

    /// Ends all of the server's processes with SIGKILL, as a power cut would. Harmless if it is dead.
    ///
    /// # Errors
    /// The server can't be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            // Sessions have process groups of their own.
            kill_tree(process.pid());
            process.kill9()?;
        }
        Ok(())
    }

    /// Starts the server again with the same port and data; one that runs is stopped before, in good order.
    ///
    /// # Errors
    /// It doesn't stop or start; the text holds the end of its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.shut_down(Signal::INT).await?;
        let process = self.process.insert(self.program.start()?);
        let url = format!("postgres://{USER}:{}@{}/postgres", self.password, self.port.address());
        eventually("PostgreSQL to answer", LIMIT, async || {
            let answer = async { PgConnection::connect(&url).await?.close().await };
            let Err(error) = answer.await else { return Ok(Ok(())) };
            match process.exit_status() {
                Ok(Some(status)) => Ok(Err(anyhow::anyhow!("PostgreSQL ended with {status}"))),
                _ => Err(error.to_string()),
            }
        })
        .await
        .flatten()
        .with_context(|| format!("starting PostgreSQL; its log ends with:\n{}", tail(&self.program.log(), 4000)))
    }

    /// Stops the server and removes its data.
    ///
    /// # Errors
    /// It doesn't stop, or its folder can't be removed.
    pub async fn stop(mut self) -> Result<()> {
        // The data go anyway, so none need be saved.
        self.shut_down(Signal::QUIT).await
    }

    /// SIGINT ends all sessions and saves everything; SIGQUIT ends at once, but without remains.
    async fn shut_down(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(signal)?;
            process.wait_exit(LIMIT).await.context("stopping PostgreSQL")?;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let quit = process.signal(Signal::QUIT);
            // It takes some 10 ms; a server that is stopped or hangs is killed.
            for _ in 0..200 {
                if quit.is_err() || !matches!(process.exit_status(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // What can't be killed shows in the check at the end of the test run.
        let _ = self.kill();
        let _ = self.remove_shared_memory();
    }
}

impl Postgres {
    /// A killed server leaves a segment of a few bytes, named in its PID file, that outlives its folder.
    fn remove_shared_memory(&self) -> Result<()> {
        let pid_file = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"))?;
        let segment = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        run(Command::new("ipcrm").arg("--shmem-id").arg(segment.context("no segment in the PID file")?))
    }
}

/// Creates an empty database on the server of this URL and gives the new one's URL.
///
/// # Errors
/// The server doesn't answer, or refuses.
pub async fn create_database(server_url: &str) -> Result<String> {
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server_url).await.context("connecting to PostgreSQL")?;
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&mut connection).await.context("creating a database")?;
    connection.close().await?;
    let (server, _) = server_url.rsplit_once('/').context("a database URL without a path")?;
    Ok(format!("{server}/{name}"))
}

fn server(folder: &Path, port: u16, further: Vec<String>) -> Result<Program> {
    let command = as_ordinary_user(&bin()?.join("postgres"));
    let mut program = Program::new(command.get_program(), "postgres", folder).quiet();
    for arg in command.get_args() {
        program = program.arg(arg);
    }
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", folder.display()),
        "max_connections=300".to_owned(),
    ];
    program = program.arg("-D").arg(folder.join("data"));
    Ok(settings.into_iter().chain(further).fold(program, |program, setting| program.arg("-c").arg(setting)))
}

/// The programs of the newest version that Debian's packages have installed.
fn bin() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = versions.filter(|version| version.path().join("bin/initdb").exists());
    installed
        .max_by_key(|version| version.file_name().to_string_lossy().parse().unwrap_or(0_u32))
        .map(|version| version.path().join("bin"))
        .context("PostgreSQL is not installed (Debian: apt-get install postgresql)")
}

/// PostgreSQL refuses to run as root: there it becomes the user whom its package created.
fn as_ordinary_user(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// A new temporary folder of the user whom the server runs as.
fn folder() -> Result<TempDir> {
    let folder = TempDir::with_prefix("reveille-postgres-").context("making a folder for PostgreSQL")?;
    own(folder.path())?;
    Ok(folder)
}

fn own(path: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(path))
    } else {
        Ok(())
    }
}

/// Runs to the end; the error holds what the command said.
fn run(command: &mut Command) -> Result<()> {
    // Not the current folder: the ordinary user may not enter it.
    let output = command.current_dir("/").output().with_context(|| format!("starting {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} ended with {}: {said}", command.get_program(), output.status);
    Ok(())
}
