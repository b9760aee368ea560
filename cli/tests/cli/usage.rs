//! Wrong usage, and servers that are not there or not ours.

use std::io::{Read as _, Write as _};

use crate::workbench::{Workbench, run, taken_port};

#[test]
fn help_tells_the_commands_and_the_exit_codes() {
    let bench = Workbench::new();
    let help = bench.run("--help").exits(0);
    for word in [
        "dev",
        "check",
        "schema",
        "plan",
        "apply",
        "next",
        "trigger",
        "runs",
        "show",
        "logs",
        "cancel",
        "schedules",
        "pause",
        "resume",
        "explain",
        "backfill",
        "history",
        "doctor",
    ] {
        assert!(help.stdout.contains(&format!("\n  {word} ")), "no {word} in\n{help}");
    }
    help.says("Exit codes:").says("REVEILLE_SERVER").says("REVEILLE_NAMESPACE");
    bench.run("trigger --help").exits(0).says("Exit codes:").says("--wait");
    bench.run("--version").exits(0).says("reveille ");
}

#[test]
fn wrong_usage_exits_with_2() {
    let bench = Workbench::new();
    for arguments in [
        "",
        "chekc",
        "runs --status lost",
        "runs --limit 0",
        "show",
        "trigger job --delay tomorrow",
        "trigger job --input {",
        "trigger job --input @nowhere.json",
        "trigger",
        "logs id --raw --json",
        "runs --server localhost",
        "dev --slots 0",
        "dev --listen nowhere",
    ] {
        bench.run(arguments).exits(2);
    }
    run(bench.command("trigger job --idempotency-key ü"), "").exits(2).says("visible ASCII");
    run(bench.command("trigger job --input -"), "[1").exits(2).says("standard input is not valid JSON");
}

#[test]
fn a_server_that_is_not_there_exits_with_5_and_says_what_to_do() {
    let bench = Workbench::new();
    let (listener, address) = taken_port();
    drop(listener);
    for command in [
        "runs",
        "show x",
        "logs x -f",
        "cancel x",
        "trigger j --wait",
        "trigger --schedule s",
        "schedules",
        "next s",
        "pause s",
        "resume s",
        "explain s",
        "backfill s --from 2026-11-25T02:00 --to now",
        "backfill s --list",
        "backfill s --cancel x",
        "history x",
    ] {
        let done = bench.run(&format!("{command} --server http://me:secret@{address}")).exits(5);
        let done = done.says(&format!("http://{address} can't be reached")).says("reveille dev").says("--server");
        assert_eq!(done.stdout, "", "{done}");
        done.says("refused").never_says("secret").never_says("backtrace");
    }
}

#[test]
fn the_server_may_be_named_by_the_environment() {
    let bench = Workbench::new();
    let (listener, address) = taken_port();
    drop(listener);
    let mut command = bench.command("runs");
    command.env("REVEILLE_SERVER", format!("http://{address}"));
    run(command, "").exits(5).says(&address.to_string());
}

#[test]
fn a_server_that_is_not_ours_is_told_apart() {
    let bench = Workbench::new();
    let (listener, address) = taken_port();
    let answers = ["HTTP/1.1 404 Not Found", "HTTP/1.1 200 OK", "HTTP/1.1 302 Found\r\nLocation: /login"];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            connection
                .write_all(format!("{answer}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<htm>").as_bytes())
                .unwrap();
        }
    });
    for said in ["404", "not JSON", "302"] {
        bench.run(&format!("runs --server http://{address}")).exits(1).says(said).says("is this a Reveille scheduler");
    }
    server.join().unwrap();
}
