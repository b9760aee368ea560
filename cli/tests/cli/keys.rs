//! `reveille keys`.

use crate::stub::{Stub, problem};
use crate::workbench::{Dev, Workbench, run};

const JOBS: &str =
    "version: 1\njobs:\n  hello: { command: [echo, hello] }\nschedules:\n  often: { every: 1h, trigger: hello }\n";

#[test]
fn a_key_is_made_listed_rotated_and_revoked() {
    let bench = Workbench::new();
    bench.write("jobs.yaml", JOBS);
    let dev = Dev::start(&bench, "--schedules jobs.yaml");
    let server = dev.server();
    let mut create = bench.command(&format!(
        "keys create {server} --role operator --namespaces billing,claims --expires-in 90d --jobs a,b"
    ));
    create.arg("ci of billing");
    let made = run(create, "").exits(0).says("operator in billing, claims, on a, b only, until").says("the only time");
    let key = made.stdout.trim_end();
    assert!(key.starts_with("rvl_") && !key.contains(char::is_whitespace), "standard output has the key alone: {made}");
    let prefix = key.split('_').nth(1).unwrap();
    let listed = bench.run(&format!("keys list {server}")).exits(0).never_says(key);
    for word in [prefix, "ci of billing", "operator", "in billing, claims, on a, b only", "good", "in 89 d", "not yet"]
    {
        assert!(listed.stdout.contains(word), "no {word} in {listed}");
    }
    let rotated = bench
        .run(&format!("keys rotate {prefix} --overlap 1h {server}"))
        .exits(0)
        .says("the secret before is good until");
    assert_ne!(rotated.stdout.trim_end(), key);
    bench.run(&format!("keys revoke {prefix} --reason over {server}")).exits(0).says("\"ci of billing\" is revoked");
    bench.run(&format!("keys rotate {prefix} {server}")).exits(1).says("was revoked");
    bench.run(&format!("keys list --search billing {server}")).exits(0).says("revoked");
    bench.run(&format!("keys list --search nobody {server}")).exits(0).says("No keys.");
    let json = bench.run(&format!("keys create x --role viewer --everywhere --json {server}")).exits(0).json();
    assert!(json["key"].is_string() && json.get("namespaces").is_none(), "{json}");
    bench.run(&format!("keys create x --role root {server}")).exits(2).says("not one of viewer, operator, admin");
    bench.run(&format!("keys revoke nobody {server}")).exits(1).says("key \"nobody\" does not exist");
}

#[test]
fn the_first_key_is_written_into_the_database() {
    let bench = Workbench::new();
    let data = bench.path().join("data");
    let mut create = bench.command("keys create me --role admin --everywhere --directly");
    create.env("REVEILLE_DATABASE_URL", format!("sqlite://{}", data.display()));
    let made = run(create, "").exits(0).says("\"me\": admin everywhere");
    assert!(made.stdout.starts_with("rvl_"), "{made}");
    bench.run("keys create me --role admin --everywhere --directly").exits(2).says("--database-url");
    for (flags, flag) in [
        ("--namespaces Billing", "--namespaces"),
        ("--namespaces good,-bad", "--namespaces"),
        ("--namespace Bad", "--namespace"),
        ("--everywhere --jobs good,Bad", "--jobs"),
        ("--everywhere --jobs *", "--jobs"),
    ] {
        let mut create = bench.command(&format!("keys create me --role admin --directly {flags}"));
        create.env("REVEILLE_DATABASE_URL", format!("sqlite://{}", data.display()));
        run(create, "").exits(2).says(&format!("{flag}: names have 1 to 64")).never_says("rvl_");
    }
    let mut wrong = bench.command("keys create me --role admin --everywhere --directly");
    wrong.env("REVEILLE_DATABASE_URL", "postgres://me:s3cret@127.0.0.1:1/none");
    run(wrong, "").exits(1).says("127.0.0.1:1/none").never_says("s3cret");
}

#[test]
fn the_key_of_the_environment_is_sent_and_never_shown() {
    let bench = Workbench::new();
    let stub = Stub::start(|_| problem(401, "Unauthorized", "the key is not known"));
    let mut runs = bench.command(&format!("runs {}", stub.server()));
    runs.env("REVEILLE_KEY", "rvl_x_s3cret");
    run(runs, "").exits(1).says("the key is not known").says("REVEILLE_KEY").says("keys create").never_says("s3cret");
    let mut strange = bench.command(&format!("runs {}", stub.server()));
    strange.env("REVEILLE_KEY", "s3\ncret");
    run(strange, "").exits(1).says("characters that no key has").never_says("cret");
    let mut help = bench.command("runs --help");
    help.env("REVEILLE_KEY", "rvl_x_s3cret");
    run(help, "").exits(0).never_says("s3cret");
}
