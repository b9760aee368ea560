//! The files in `deploy/` fit the binaries, as far as that can be told without running a container.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The variables of the user contract; `--help` shows them.
const DOCUMENTED: [&str; 10] = [
    "REVEILLE_DATABASE_URL",
    "REVEILLE_BROKER_URL",
    "REVEILLE_LISTEN",
    "REVEILLE_SCHEDULES",
    "REVEILLE_QUEUES",
    "REVEILLE_SLOTS",
    "REVEILLE_LOG",
    "REVEILLE_POLICY",
    "REVEILLE_KEY",
    "REVEILLE_SECRET_KEY",
];

/// How long a process may take to end in good order, in seconds.
const GRACE: u32 = 30;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("deploy/compose.yaml")).unwrap()
}

/// The services that run our own binaries: name, description, environment.
fn our_services(compose: &Value) -> Vec<(&String, &Value, BTreeMap<&str, &str>)> {
    let services = compose["services"].as_object().unwrap().iter();
    let ours = services.filter(|(_, service)| service["image"] == "reveille");
    ours.map(|(name, service)| {
        let environment = service["environment"].as_object().unwrap().iter();
        let environment = environment.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        (name, service, environment.collect())
    })
    .collect()
}

fn assert_documented(file: &str, text: &str) {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours: BTreeSet<_> = words.filter(|word| word.starts_with("REVEILLE_")).collect();
    assert!(!ours.is_empty(), "{file} sets nothing");
    let unknown: Vec<_> = ours.into_iter().filter(|name| !DOCUMENTED.contains(name)).collect();
    assert!(unknown.is_empty(), "{file}: {unknown:?} are not documented");
}

/// Asserts that a package builds a binary of this name, as soon as that package builds any.
fn assert_is_a_binary(name: &str) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let output = command.current_dir(root()).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name);
    let package = package.unwrap_or_else(|| panic!("no package builds {name}"));
    let targets = package["targets"].as_array().unwrap().iter();
    let binaries: Vec<_> = targets.filter(|target| target["kind"][0] == "bin").map(|target| &target["name"]).collect();
    assert!(binaries.is_empty() || binaries.iter().any(|binary| *binary == name), "{name} is not among {binaries:?}");
}

#[test]
fn compose_runs_a_scheduler_and_two_workers() {
    let compose = compose();
    let commands: Vec<_> =
        our_services(&compose).iter().map(|(_, service, _)| service["command"][0].as_str()).collect();
    assert_eq!(commands, [Some("reveille-scheduler"), Some("reveille-worker"), Some("reveille-worker")]);
    assert_is_a_binary("reveille-scheduler");
    assert_is_a_binary("reveille-worker");
    for (name, service, environment) in our_services(&compose) {
        for needed in ["REVEILLE_DATABASE_URL", "REVEILLE_BROKER_URL", "REVEILLE_LISTEN"] {
            assert!(environment.contains_key(needed), "{name} has no {needed}");
        }
        let grace = service["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s')).unwrap();
        assert!(grace.parse::<u32>().unwrap() > GRACE, "{name} is killed before its grace period is over");
    }
    assert_documented("compose.yaml", &read("deploy/compose.yaml"));
}

#[test]
fn compose_listens_on_the_hosts_loopback_only_and_asks_there_for_health() {
    let compose = compose();
    let mut addresses = BTreeSet::new();
    for (name, service, environment) in our_services(&compose) {
        let address = environment["REVEILLE_LISTEN"];
        assert!(address.starts_with("127.0.0.1:"), "{name} listens on {address}");
        assert_eq!(service["network_mode"], "host", "{name}");
        assert!(addresses.insert(address), "{name} wants the port of another");
        let check = service["healthcheck"]["test"].as_array().unwrap().last().unwrap();
        assert_eq!(*check, format!("http://{address}/readyz"), "{name}");
    }
    for service in ["postgres", "rabbitmq"] {
        for port in compose["services"][service]["ports"].as_array().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{service} is published as {port}");
        }
    }
}

#[test]
fn compose_has_no_secret_of_its_own() {
    let compose = compose();
    for (service, description) in compose["services"].as_object().unwrap() {
        for (name, value) in description["environment"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            if name.ends_with("_PASS") || name.ends_with("_PASSWORD") {
                assert!(value.starts_with("${") && value.contains(":?"), "{service}: {name} must be required");
            }
            if let Some((_, authority)) = value.split_once("://") {
                let (user, _) = authority.rsplit_once('@').unwrap();
                assert!(user.starts_with("reveille:${") && user.contains(":?"), "{service}: {name} must be required");
            }
        }
    }
    for line in read("deploy/.env.example").lines().filter(|line| !line.starts_with('#')) {
        assert!(line.ends_with('='), "{line} is a default");
    }
}

#[test]
fn the_image_holds_all_binaries_and_runs_as_nobody_in_particular() {
    let dockerfile = read("deploy/Dockerfile");
    for binary in ["reveille", "reveille-scheduler", "reveille-worker"] {
        assert_is_a_binary(binary);
        assert!(dockerfile.contains(&format!("--package {binary} ")), "{binary} is not built");
        assert!(dockerfile.contains(&format!("target/release/{binary} ")), "{binary} is not taken over");
    }
    let user = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    assert_ne!(user.unwrap().parse::<u32>().unwrap(), 0);
    let rust = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the image must be built by the version of the workspace");
}

/// The settings of each section of a unit file.
fn sections(unit: &str) -> BTreeMap<&str, BTreeMap<&str, Vec<&str>>> {
    let mut sections: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
    let mut current = "";
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            current = name;
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("not a setting: {line}"));
            sections.entry(current).or_default().entry(name).or_default().push(value);
        }
    }
    sections
}

#[test]
fn the_units_run_our_binaries_and_give_them_time_to_end() {
    for part in ["scheduler", "worker"] {
        let file = format!("deploy/systemd/reveille-{part}.service");
        let unit = read(&file);
        let sections = sections(&unit);
        assert_eq!(sections.keys().copied().collect::<Vec<_>>(), ["Install", "Service", "Unit"], "{file}");
        let service = &sections["Service"];
        let binary = service["ExecStart"][0].strip_prefix("/usr/local/bin/").unwrap();
        assert_eq!(binary, format!("reveille-{part}"));
        assert_is_a_binary(binary);
        assert_eq!(service["EnvironmentFile"], [format!("/etc/reveille/{part}.env")]);
        assert_eq!(service["Restart"], ["on-failure"], "{file}");
        assert_eq!(service["KillSignal"], ["SIGTERM"], "{file}");
        assert_eq!(service["NoNewPrivileges"], ["yes"], "{file}");
        assert!(service["TimeoutStopSec"][0].parse::<u32>().unwrap() > GRACE, "{file}");
        assert_documented(&file, &unit);
    }
}

#[test]
fn systemd_accepts_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let folder = TempDir::new().unwrap();
    for part in ["scheduler", "worker"] {
        // It wants the program to exist, at the place where an installation would put it.
        let installed = format!("/usr/local/bin/reveille-{part}");
        let unit = read(&format!("deploy/systemd/reveille-{part}.service")).replace(&installed, "/bin/true");
        let path = folder.path().join(format!("reveille-{part}.service"));
        std::fs::write(&path, unit).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let about_us: Vec<_> = said.lines().filter(|line| line.contains("reveille-")).collect();
        assert!(output.status.success() && about_us.is_empty(), "{said}");
    }
}
