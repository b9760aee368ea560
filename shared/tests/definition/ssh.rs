//! Commands on other hosts.

use reveille_shared::definition::{Handler, RemoteCommand, SshCall};

use super::{faults, read, report};

fn job(keys: &str) -> String {
    format!("version: 1\njobs:\n  a: {{ ssh: {{ {keys} }} }}\n")
}

fn call(keys: &str) -> SshCall {
    let mut jobs = read(&job(keys)).unwrap_or_else(|faults| panic!("{faults}")).jobs;
    match jobs.remove(0).handler {
        Handler::Ssh(call) => call,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_read_in_all_their_forms() {
    let short = call("host: db1, user: backup, command: df -h / | tail -n 1");
    let expected = SshCall {
        host: "db1".into(),
        port: 22,
        user: "backup".into(),
        command: RemoteCommand::Shell("df -h / | tail -n 1".into()),
        env: [].into(),
        working_dir: None,
        identity_file: None,
        passphrase: None,
        known_hosts: None,
        connect_timeout: "10s".parse().unwrap(),
        idle_timeout: None,
        success: vec![],
        no_retry: vec![],
    };
    assert_eq!(short, expected);
    let long = call(
        r#"host: "{{ input.host }}", port: 2222, user: backup, command: [pg_dump, "{{ input.db }}"], env: { A: "${env:A}{{ job }}" },
           working_dir: /srv, identity_file: /etc/id, passphrase: "${env:PASSPHRASE}", known_hosts: /etc/hosts.known,
           connect_timeout: 3s, idle_timeout: 5m, success: [0, 3], no_retry: [64]"#,
    );
    insta::assert_json_snapshot!(long);
    let read_again: SshCall = serde_json::from_value(serde_json::to_value(&long).unwrap()).unwrap();
    assert_eq!(read_again, long);
}

#[test]
fn each_fault_of_ssh() {
    let with = |keys: &str| job(&format!("host: h, user: u, command: [c], {keys}"));
    let cases = [
        ("nothing", job("")),
        ("as ssh writes it", job("host: me@db1:22, user: u, command: c")),
        ("a host with its port", job("host: \"db1:22\", user: u, command: c")),
        ("a host of a secret", job("host: \"${env:HOST}\", user: u, command: c")),
        ("a user of a template", job("host: h, user: \"{{ input.user }}\", command: c")),
        ("a template in a text for a shell", job("host: h, user: u, command: \"dump {{ input.db }} | gzip\"")),
        ("a secret in a text for a shell", job("host: h, user: u, command: \"login ${env:PASSWORD}\"")),
        ("an unknown variable in an argument", job("host: h, user: u, command: [dump, \"{{ inptu.db }}\"]")),
        ("a map as a command", job("host: h, user: u, command: { argv: [c] }")),
        ("no command", job("host: h, user: u, command: []")),
        ("a passphrase as it is", with("passphrase: hunter2")),
        ("a key of the home folder", with("identity_file: ~/.ssh/id_ed25519")),
        ("no time at all", with("connect_timeout: 0s, idle_timeout: 5")),
        ("a port out of range", with("port: 65536")),
        ("a code in two lists", with("success: [0, 1], no_retry: [1]")),
        ("what is written elsewhere", with("timeout: 5m, password: hunter2, argv: [x]")),
        ("what later versions bring", with("proxy_jump: bastion")),
        (
            "two handlers",
            "version: 1\njobs: { a: { function: f, ssh: { host: h, user: u, command: c } } }\n".to_owned(),
        ),
    ];
    let told = report(&cases.each_ref().map(|(title, text)| (*title, text.as_str())));
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn a_value_of_the_environment_is_not_told() {
    let text = job("host: h, user: u, command: [c], env: { A: \"hunter2 ${env:B-C}\", 1B: hunter2 }");
    assert!(!faults(&text).to_string().contains("hunter2"));
}

#[test]
fn the_examples_of_the_page_are_faultless() {
    let page = include_str!("../../../docs/ssh.md");
    let examples = page.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    let jobs: usize = examples.map(|text| read(text).unwrap_or_else(|faults| panic!("{faults}")).jobs.len()).sum();
    assert_eq!(jobs, 3);
}
