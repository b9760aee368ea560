//! Texts made to hurt the reader.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reveille_shared::definition::{MOST_BYTES, MOST_NODES};

use super::{faults, read};

fn nested(levels: usize) -> String {
    format!("version: 1\nx: {}{}", "[".repeat(levels), "]".repeat(levels))
}

fn billion_laughs() -> String {
    let mut text = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{items}]");
    }
    text
}

fn deep_by_aliases() -> String {
    let mut text = "version: 1\nx0: &x0 [1]\n".to_owned();
    for level in 1..100 {
        let _ = writeln!(text, "x{level}: &x{level} [*x{}]", level - 1);
    }
    text
}

#[test]
fn hostile_texts_fail_at_once() {
    let blocks: String = (0..200).map(|level| format!("{}-\n", " ".repeat(level))).collect();
    let mut report = String::new();
    for (title, text) in [
        ("size", format!("version: 1\n#{}", "x".repeat(MOST_BYTES))),
        ("flow depth", nested(100_000)),
        ("just too deep", nested(64)),
        ("block depth", blocks),
        ("nodes", format!("version: 1\nx: [{}]", "1,".repeat(MOST_NODES))),
        ("aliases", billion_laughs()),
        ("depth by aliases", deep_by_aliases()),
        ("an alias of itself", "version: 1\nx: &x [*x]".to_owned()),
    ] {
        let started = Instant::now();
        let _ = writeln!(report, "── {title}\n{}\n", faults(&text));
        // Milliseconds in truth; the limit is for a loaded machine and a debug build.
        assert!(started.elapsed() < Duration::from_secs(3), "{title} took {:?}", started.elapsed());
    }
    insta::assert_snapshot!(report);
    assert!(!faults(&nested(63)).to_string().contains("levels deep"));
}

#[test]
fn an_alias_repeats_a_value_and_its_fault_is_told_once() {
    let text = "version: 1\njobs:\n  a: &a { function: f, retry: { max_attempts: 1 } }\n  b: *a\n";
    assert_eq!(read(text).unwrap().jobs.len(), 2);
    let faulty = faults("version: 1\njobs:\n  a: &a { function: f, oops: 1 }\n  b: *a\n");
    assert_eq!(faulty.len(), 1, "{faulty}");
}

#[test]
fn thousands_of_faults_are_cut_and_quick() {
    let jobs =
        |end: &str| (0..9_000).map(|n| format!("  \"ä{n}\": {{ function: f, oops: 1 }}{end}")).collect::<String>();
    let repeated = format!("version: 1\njobs: {{ {} }}", "\"ä\": {},".repeat(20_000));
    let calls = (0..9_000).map(|n| format!("\"s{n}\": {{ every: 5s, trigger: jb{n} }},")).collect::<String>();
    let known = (0..9_000).map(|n| format!("\"job{n}\": {{ function: f }},")).collect::<String>();
    let calls = format!("version: 1\njobs: {{ {known} }}\nschedules: {{ {calls} }}");
    let many =
        |item: &str| (0..9_000).map(|n| format!("\"{}\",", item.replace('N', &n.to_string()))).collect::<String>();
    let days = |days: &str| {
        format!(
            "version: 1\njobs: {{ a: {{ function: f }} }}\nschedules: {{ s: {{ every: 5s, trigger: a, except: [{days}] }} }}"
        )
    };
    let chain = format!("version: 1\njobs: {{ a: {{ function: f, on_finish: [{}] }}, {known} }}", many("jbN"));
    let templates = format!("version: 1\njobs: {{ a: {{ command: [{}] }} }}", many("{{ vN }}"));
    for text in [
        days(&many("calendar-N")),
        days(&many("2026-02-30")),
        chain,
        templates,
        format!("version: 1\njobs:\n{}", jobs("\n")),
        format!("version: 1\njobs: {{ {} }}", jobs(",")),
        repeated,
        calls,
    ] {
        let started = Instant::now();
        let faults = faults(&text);
        assert!((1_000..1_100).contains(&faults.len()), "{}", faults.len());
        assert_eq!(faults.iter().count(), 1_000);
        assert!(faults.to_string().ends_with(&format!("and {} more", faults.len() - 50)));
        assert!(started.elapsed() < Duration::from_secs(15), "took {:?}", started.elapsed());
    }
}

#[test]
fn hostile_templates_fail_at_once() {
    let job = |text: &str| format!("version: 1\njobs: {{ a: {{ command: [x, '{text}'] }} }}");
    for (text, least) in [
        ("{{ ".to_owned() + &"(".repeat(500_000) + " }}", 1),
        ("{{ ".to_owned() + &"x ~ ".repeat(100_000) + "x }}", 1),
        ("{% if x %}".repeat(50_000), 1),
        ((0..600).map(|n| format!("{{{{ v{n} | f{n} }}}}")).collect(), 20),
        ("{{ input.".to_owned() + &"a.".repeat(200_000) + "a }}", 0),
        ("{".repeat(900_000), 1),
        ("{{ x }}".repeat(100_000), 1),
        ("{{ input }}".repeat(600), 0),
    ] {
        let started = Instant::now();
        let told = read(&job(&text)).map_or_else(|faults| faults.len(), |_| 0);
        assert!(told >= least && told <= 20, "{told} faults of {}…", &text[..20]);
        // A fraction of a second in truth; the limit is for a loaded machine and a debug build.
        assert!(started.elapsed() < Duration::from_secs(5), "{}… took {:?}", &text[..20], started.elapsed());
    }
}

#[test]
fn hostile_conditions_and_keys_fail_at_once() {
    let job = |condition: &str, key: &str| {
        let verify = format!("verify: {{ http: {{ url: http://a, succeeded: \"{condition}\" }} }}");
        format!("version: 1\njobs: {{ a: {{ function: f, {verify}, unique: {{ key: \"{key}\", while: 10m }} }} }}")
    };
    for (condition, key) in [
        ("(".repeat(900_000), String::new()),
        ("status == ".repeat(50_000), "{{ ".to_owned() + &"(".repeat(150) + " }}"),
        ("[".repeat(400) + &"]".repeat(400), "{{".repeat(100)),
        ("'".to_owned() + &"x".repeat(900_000), "x".repeat(100_000)),
        ((0..200).map(|n| format!("v{n} | f{n} ~ ")).collect(), "{% if x %}".repeat(20)),
    ] {
        let started = Instant::now();
        let told = faults(&job(&condition, &key)).len();
        assert!((2..=21).contains(&told), "{told} faults of {}…", &condition[..20]);
        // A fraction of a second in truth; the limit is for a loaded machine and a debug build.
        assert!(started.elapsed() < Duration::from_secs(5), "{}… took {:?}", &condition[..20], started.elapsed());
    }
}
