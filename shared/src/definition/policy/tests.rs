//! Policies as people write them, right and wrong.

use super::*;

const WHOLE: &str = "\
version: 1
commands:
  - /usr/local/bin/backup-*
  - program: rsync
    arguments: [--archive, /srv/**, '**']
    variables: [RSYNC_*]
hosts: [billing.internal, 'https://*.example.com:8443']
ssh: ['backup@db-*.internal']
functions: []
environment: [BILLING_*]
limits: { cpu: 10m, memory: 2GiB, open_files: 256, processes: 200, file_size: 10GiB, output: 64KiB }
run_as: nobody:nogroup
";

#[test]
fn a_whole_policy_is_read_with_the_place_of_each_rule() {
    let policy = read_policy_text("policy.yaml", WHOLE).unwrap();
    let commands = policy.commands.unwrap();
    assert_eq!((commands.line, commands.rules[0].line, commands.rules[1].line), (2, 3, 4));
    assert_eq!(
        (commands.rules[1].text.as_str(), commands.rules[1].value.arguments.as_ref().unwrap().len()),
        ("rsync", 3)
    );
    assert!(commands.rules[0].value.arguments.is_none() && commands.rules[0].value.variables.is_empty());
    assert_eq!(policy.hosts.unwrap().rules.len(), 2);
    assert_eq!(policy.ssh.unwrap().rules[0].line, 8);
    assert_eq!(policy.functions.unwrap().rules, []);
    assert_eq!(policy.environment.unwrap().rules[0].text, "BILLING_*");
    let limits = policy.limits;
    assert_eq!(limits.cpu.unwrap().value, HumanDuration::from_secs(600));
    assert_eq!(
        limits.memory.map(|rule| (rule.value.bytes(), rule.text, rule.line)),
        Some((2 << 30, "2GiB".into(), 11))
    );
    assert_eq!((limits.open_files.unwrap().value, limits.processes.unwrap().value), (256, 200));
    assert_eq!(limits.output.unwrap().value, Size::kib(64));
    assert_eq!(policy.run_as.unwrap().value, ("nobody".into(), Some("nogroup".into())));
}

#[test]
fn the_policy_of_the_documentation_is_one() {
    let page = include_str!("../../../../docs/policy.md");
    let text = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policy = read_policy_text("docs/policy.md", text).unwrap();
    assert_eq!((policy.commands.unwrap().rules.len(), policy.hosts.unwrap().rules.len()), (2, 3));
    assert!(policy.limits.output.is_some() && policy.run_as.is_some());
}

#[test]
fn what_is_not_there_is_open() {
    let policy = read_policy_text("p", "version: 1\nhosts: []\n").unwrap();
    assert_eq!(policy.hosts.map(|hosts| hosts.rules), Some(vec![]));
    assert!(policy.commands.is_none() && policy.environment.is_none() && policy.run_as.is_none());
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "\
commnads: [rm]
commands:
  - ../bin/rm
  - { arguments: [a] }
  - { program: '/usr/bin/${env:X}', argumnts: [] }
hosts: [ftp://a, '10.0.*', evil.com/x]
ssh: [host]
environment: ['A-B', '']
limits: { cpu: 10, memory: 64, open_files: 2, output: 5MiB, file_size: big }
run_as: 'a b'
";
    insta::assert_snapshot!(read_policy_text("policy.yaml", text).unwrap_err());
}

#[test]
fn nothing_is_no_policy() {
    for text in
        ["", "# all commented out\n", "just text", "[]", "version: 1\ncommands:\n", "version: 1\ncommands: rm\n"]
    {
        let faults = read_policy_text("p", text).unwrap_err();
        assert!(!faults.is_empty(), "{text:?}");
    }
    let faults = read_policy(Path::new("/nowhere/policy.yaml")).unwrap_err();
    assert!(faults.to_string().contains("can't be read"), "{faults}");
}
