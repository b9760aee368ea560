//! What policies allow and refuse.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reveille_shared::definition::policy::read_policy_text;

use super::*;

/// A policy with this text, for this process.
pub(crate) fn policy(text: &str) -> Policy {
    Policy::of(read_policy_text("policy.yaml", text).unwrap()).unwrap()
}

fn url(policy: &Policy, url: &str) -> Result<(), String> {
    policy.url(&Url::parse(url).unwrap(), true).map_err(|refused| refused.0)
}

#[test]
fn a_refusal_names_the_rule_and_what_to_change() {
    let policy = policy("version: 1\nhosts: [billing.internal]\nfunctions:\n  - 'billing::*'\nssh: []\n");
    assert_eq!(
        url(&policy, "http://user:pw@evil.org/secret").unwrap_err(),
        "this worker's policy allows hosts [billing.internal]; `http://evil.org:80` is none of them (policy.yaml:2); \
         change the job, or add it there and start the worker anew"
    );
    let refused = policy.function("other").unwrap_err();
    assert!(
        refused.message().contains("functions [billing::*]; `other` is none of them (policy.yaml:3)"),
        "{refused:?}"
    );
    assert!(policy.ssh("root", "db", 22).unwrap_err().message().contains("ssh []; `root@db:22`"));
    let failure = RunFailure::from(refused);
    assert_eq!((failure.code.as_str(), failure.retryable), ("Refused", false));
    let hidden = policy.url(&Url::parse("http://s3cret.org/").unwrap(), false).unwrap_err();
    assert!(!hidden.message().contains("s3cret") && hidden.message().contains("the URL's host"), "{hidden:?}");
}

#[test]
fn without_a_section_its_matter_is_open() {
    for policy in [Policy::default(), policy("version: 1\n")] {
        url(&policy, "http://169.254.169.254/").unwrap();
        policy.function("any").unwrap();
        policy.variable("REVEILLE_DATABASE_URL").unwrap();
        policy.ssh("root", "any", 1).unwrap();
    }
}

#[test]
fn a_url_is_judged_by_where_it_goes() {
    let policy = policy("version: 1\nhosts: [api.example.com, 'https://*.example.org:8443', 10.0.0.0/8, '[::1]:*']\n");
    for good in [
        "https://API.example.com./x",
        "http://api.example.com:80/",
        "https://evil.org@api.example.com/",
        "https://a.example.org:8443/",
        "http://10.1.2.3/",
        "http://0xa.1/",
        "http://167772161/",
        "http://[::1]:99/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        assert_eq!(url(&policy, good), Ok(()), "{good}");
    }
    for bad in [
        "https://api.example.com@evil.org/",
        "https://api.example.com.evil.org/",
        "https://evil.org/api.example.com",
        "https://evil.org#@api.example.com",
        "https://evil.org\\@api.example.com/",
        "https://api.example.com:8443/",
        "https://api.example.com:80/",
        "http://a.example.org:8443/",
        "https://example.org:8443/",
        "https://a.b.example.org:8443/",
        "http://11.0.0.1/",
        "http://0x7f.1/",
        "http://[::2]/",
        "http://api%2eexample.org/",
    ] {
        assert!(url(&policy, bad).is_err(), "{bad} was allowed");
    }
}

#[test]
fn variables_of_the_worker_itself_must_be_named_in_full() {
    let wild = policy("version: 1\nenvironment: ['*', 'REVEILLE_*']\n");
    wild.variable("TOKEN").unwrap();
    wild.variable("REVEILLE_DATABASE_URL").unwrap_err();
    policy("version: 1\nenvironment: [REVEILLE_MINE]\n").variable("REVEILLE_MINE").unwrap();
}

fn run(policy: &Policy, argv: &[&str], variables: &[&str]) -> Result<String, String> {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let env: BTreeMap<_, _> = variables.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    let call = CommandCall { argv, env, working_dir: None, success: vec![], no_retry: vec![] };
    policy.program(&call, &call.argv[1..], Some("relative:/usr/bin:/bin")).map_err(|failure| failure.message)
}

#[test]
fn a_program_is_named_by_its_path_or_by_what_the_path_finds() {
    let by_name = policy("version: 1\ncommands: [cat]\n");
    let cat = run(&by_name, &["cat"], &[]).unwrap();
    assert!(cat.starts_with('/'), "{cat}");
    assert_eq!(run(&by_name, &[&cat], &[]), Ok(cat.clone()));
    let refused = run(&by_name, &["ls"], &[]).unwrap_err();
    assert!(refused.contains("allows commands [cat]; `/") && refused.contains("/ls` is none of them"), "{refused}");
    assert_eq!(run(&by_name, &["no-such-program"], &[]).unwrap_err(), "there is no program \"no-such-program\" here");

    // `/bin` may be a link.
    for rule in ["/bin/cat", "/usr/bin/cat", "/usr/bin/c*", "/usr/**"] {
        if std::fs::canonicalize("/bin").unwrap() == Path::new("/usr/bin") {
            run(&policy(&format!("version: 1\ncommands: ['{rule}']\n")), &["/usr/../bin/cat"], &[]).unwrap();
        }
    }
    run(&policy("version: 1\ncommands: ['/opt/*', /usr/local/cat]\n"), &["cat"], &[]).unwrap_err();
}

#[test]
fn a_file_elsewhere_is_not_what_a_name_means() {
    let folder = tempfile::tempdir().unwrap();
    let evil = folder.path().join("cat");
    std::fs::copy("/bin/cat", &evil).unwrap();
    let policy = policy("version: 1\ncommands: [cat, '*']\n");
    run(&policy, &[evil.to_str().unwrap()], &[]).unwrap_err();
}

#[test]
fn arguments_and_variables_are_part_of_a_rule() {
    let policy = policy(
        "version: 1\ncommands:\n  - { program: cat, arguments: [--number, /srv/*, '*'], variables: [DAY, 'X_*'] }\n  - { program: cat, arguments: [--, '**'] }\n  - { program: ls, arguments: [] }\n",
    );
    let allowed = |argv: &[&str], variables: &[&str]| run(&policy, argv, variables);
    allowed(&["cat", "--number", "/srv/a", "b"], &["DAY", "X_1"]).unwrap();
    allowed(&["cat", "--"], &[]).unwrap();
    allowed(&["cat", "--", "-any", "../thing"], &[]).unwrap();
    allowed(&["ls"], &[]).unwrap();
    for (argv, variables, part) in [
        (&["cat"][..], &[][..], "argument 1 must be `--number`, and there is none (policy.yaml:3)"),
        (&["cat", "--number", "/srv/a/b", "c"], &[], "argument 2 does not fit `/srv/*`"),
        (&["cat", "--number", "/srv/..", "c"], &[], "argument 2"),
        (&["cat", "--number", "/srv/a", "--evil"], &[], "argument 3"),
        (&["cat", "--number", "/srv/a", "b", "c"], &[], "it has 4 of them, and 3 are expected"),
        (&["cat", "--number", "/srv/a", "b"], &["LD_PRELOAD"], "set the variable LD_PRELOAD"),
        (&["cat", "--"], &["DAY"], "argument 1 does not fit"),
        (&["ls", "-l"], &[], "1 of them, and 0 are expected"),
    ] {
        let refused = allowed(argv, variables).unwrap_err();
        assert!(refused.contains(part), "{argv:?}: {refused}");
    }
}

#[test]
fn the_start_tells_what_is_in_force_and_what_is_wide_open() {
    assert!(Policy::default().summary().starts_with("none"));
    assert!(Policy::default().warnings()[0].starts_with("no policy"));
    let policy = policy(
        "version: 1\ncommands: [cat, sh, { program: env, arguments: [date] }]\nhosts: []\nlimits: { cpu: 1s }\n",
    );
    let summary = policy.summary();
    let expected = "policy.yaml: commands by 3 rules, hosts none, ssh any, functions any, environment any, cpu 1s";
    assert!(summary.starts_with(expected), "{summary}");
    let warnings = policy.warnings();
    assert_eq!(
        warnings,
        ["policy.yaml:2 allows `sh` with any arguments, and so every program: list `arguments` there"]
    );
}

#[test]
fn a_policy_that_this_process_can_not_keep_is_refused() {
    let refused = |text: &str| Policy::of(read_policy_text("policy.yaml", text).unwrap()).unwrap_err().to_string();
    let unknown = refused("version: 1\nrun_as: nobody-of-this-name\n");
    assert!(unknown.starts_with("policy.yaml:2: there is no user"), "{unknown}");
    if rustix::process::geteuid().is_root() {
        let unbound = refused("version: 1\nrun_as: root\nlimits: { processes: 5 }\n");
        assert!(unbound.starts_with("policy.yaml:3: `processes` does not bind root"), "{unbound}");
    } else {
        let other = refused("version: 1\nrun_as: root\n");
        assert!(other.starts_with("policy.yaml:2: only root can run programs as root"), "{other}");
    }
}

proptest! {
    /// Nothing is allowed that no rule has, whatever the text.
    #[test]
    fn literal_rules_allow_themselves_alone(host in "[a-z]{1,4}(\\.[a-z]{1,3})?", other in "[a-z.]{1,8}", name in "\\PC{0,8}") {
        let policy = policy(&format!("version: 1\nhosts: ['{host}']\nfunctions: [own]\nenvironment: [OWN]\n"));
        if let Ok(target) = Url::parse(&format!("https://{other}/")) {
            let is_same = target.host_str().map(|host| host.trim_end_matches('.')) == Some(host.as_str());
            prop_assert!(policy.url(&target, true).is_err() || is_same, "{target}");
        }
        prop_assert_eq!(policy.function(&name).is_ok(), name == "own");
        prop_assert_eq!(policy.variable(&name).is_ok(), name == "OWN");
    }

    /// Whatever a run's input is, a wildcard leads nowhere else.
    #[test]
    fn wildcards_bring_in_no_option_and_no_way_out(input in "[-./a]{0,8}") {
        let pattern = Pattern::new("*", Some('/'));
        let below = Pattern::new("/srv/**", Some('/'));
        prop_assert!(!admits(&pattern, &input) || !input.starts_with('-') && !input.contains('/'));
        let path = format!("/srv/{input}");
        prop_assert!(!admits(&below, &path) || !path.split('/').any(|part| part == ".."));
    }
}
