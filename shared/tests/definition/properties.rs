//! What holds for all definitions and all texts.

use proptest::prelude::*;
use reveille_shared::definition::*;
use reveille_shared::duration::HumanDuration;
use serde_json::Value;

use super::read;

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9._-]{0,20}"
}

fn duration() -> impl Strategy<Value = HumanDuration> {
    (1u64..10_000_000_000).prop_map(HumanDuration::from_millis)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".*".prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn command() -> impl Strategy<Value = CommandCall> {
    let env = prop::collection::btree_map(".*", ".*", 0..3);
    let codes = prop::collection::vec(any::<u16>(), 0..3);
    let parts = (prop::collection::vec(".*", 1..4), env, prop::option::of(".*"), codes);
    parts.prop_map(|(argv, env, working_dir, codes)| {
        let codes: Vec<i32> = codes.into_iter().map(i32::from).collect();
        CommandCall { argv, env, working_dir, success: codes.clone(), no_retry: codes }
    })
}

fn verify() -> impl Strategy<Value = Verify> {
    let headers = prop::collection::btree_map(".*", ".*", 0..3);
    let conditions = (".*", prop::option::of(".*"), prop::option::of(".*"));
    let http = (".*", headers, conditions).prop_map(|(url, headers, (succeeded, failed, running))| {
        VerifyCall::Http(VerifyHttp { url, headers, succeeded, failed, running })
    });
    let how = prop_oneof![http, command().prop_map(VerifyCall::Command)];
    (how, duration()).prop_map(|(how, timeout)| Verify { how, timeout })
}

fn ssh() -> impl Strategy<Value = SshCall> {
    let remote = prop_oneof![
        prop::collection::vec(".*", 1..4).prop_map(RemoteCommand::Argv),
        ".*".prop_map(RemoteCommand::Shell),
    ];
    let files = (prop::option::of(".*"), prop::option::of(".*"), prop::option::of(".*"));
    let parts = (".*", any::<u16>(), remote, files, duration(), prop::option::of(duration()), command());
    parts.prop_map(|(host, port, remote, files, connect_timeout, idle_timeout, like)| SshCall {
        host,
        port,
        user: "u".into(),
        command: remote,
        env: like.env,
        working_dir: like.working_dir,
        identity_file: files.0,
        passphrase: files.1,
        known_hosts: files.2,
        connect_timeout,
        idle_timeout,
        success: like.success,
        no_retry: like.no_retry,
    })
}

fn follow() -> impl Strategy<Value = Follow> {
    let text = || prop::option::of(".*");
    let texts = (text(), text(), text(), text(), text());
    (texts, duration(), duration(), any::<bool>()).prop_map(|(texts, least, most, delete)| {
        let (url, succeeded, failed, running, percent) = texts;
        Follow { url, succeeded, failed, running, percent, least, most, delete }
    })
}

fn handler() -> impl Strategy<Value = Handler> {
    let pairs = || prop::collection::btree_map(".*", ".*", 0..3);
    let codes = || prop::collection::vec(any::<u16>(), 0..3);
    let cancel = prop::option::of((".*", pairs()))
        .prop_map(|cancel| cancel.map(|(url, headers)| CancelCall { method: "DELETE".into(), url, headers }));
    prop_oneof![
        (any_json(), pairs(), codes(), cancel, prop::option::of(follow().prop_map(Box::new)), any::<bool>()).prop_map(
            |(body, headers, success, cancel, follow, one_way)| {
                let body = Some(body).filter(|body| !body.is_null());
                let call = HttpCall::new("PUT", "http://a");
                Handler::Http(HttpCall { headers, body, success, cancel, follow, one_way, ..call })
            }
        ),
        command().prop_map(Handler::Command),
        ssh().prop_map(Handler::Ssh),
        ".*".prop_map(Handler::Function),
    ]
}

fn calls() -> impl Strategy<Value = Vec<Chained>> {
    // A call with the input `null` is a call without one.
    let input = prop::option::of(any_json()).prop_map(|input| input.filter(|input| !input.is_null()));
    prop::collection::vec((name(), input).prop_map(|(job, input)| Chained { job, input }), 0..3)
}

fn instant() -> impl Strategy<Value = jiff::Timestamp> {
    (0i64..4_000_000_000_000).prop_map(|ms| jiff::Timestamp::from_millisecond(ms).unwrap())
}

fn day_rules() -> impl Strategy<Value = Vec<DayRule>> {
    let date = || (0i16..9999, 1i8..13, 1i8..29).prop_map(|(year, month, day)| jiff::civil::date(year, month, day));
    let day = || prop::sample::select(vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun]);
    let plain = prop_oneof![
        (date(), date()).prop_map(|(from, to)| DayRule::Dates { from, to }),
        (day(), day()).prop_map(|(from, to)| DayRule::Weekdays { from, to }),
    ];
    let calendar = (name(), prop::collection::vec(plain.clone(), 0..3))
        .prop_map(|(name, days)| DayRule::Calendar { name, days: days.into() });
    prop::collection::vec(prop_oneof![plain, calendar], 0..3)
}

fn concurrency() -> impl Strategy<Value = Concurrency> {
    (any::<u32>(), prop::option::of(".*")).prop_map(|(limit, key)| Concurrency { limit, key })
}

fn rate() -> impl Strategy<Value = Rate> {
    (any::<u32>(), duration(), prop::option::of(".*")).prop_map(|(limit, per, key)| Rate { limit, per, key })
}

fn unique() -> impl Strategy<Value = Unique> {
    let span =
        prop_oneof![Just(UniqueSpan::Waiting), Just(UniqueSpan::Running), duration().prop_map(UniqueSpan::Window),];
    (".*", span).prop_map(|(key, span)| Unique { key, span })
}

prop_compose! {
    fn any_limited()(
        priority in prop::sample::select(Priority::ALL.as_slice()), concurrency in prop::option::of(concurrency()),
        rate in prop::option::of(rate()), verify in prop::option::of(verify()), unique in prop::option::of(unique()), expires in prop::option::of(duration()),
    ) -> Job {
        let plain = Job::new("", "", Handler::Function(String::new()));
        Job { priority, concurrency, rate, verify, unique, expires, ..plain }
    }
}

prop_compose! {
    fn any_job()(
        limited in any_limited(),
        names in (name(), name(), name()), description in prop::option::of(".*"), handler in handler(),
        timeout in duration(), initial in duration(), max in duration(), max_attempts in 1u32..,
        backoff in prop::sample::select(vec![Backoff::Constant, Backoff::Exponential]),
        on_lost in prop::sample::select(vec![OnLost::Fail, OnLost::Retry]),
        (on_success, on_failure, on_finish) in (calls(), calls(), calls()),
    ) -> Job {
        let (namespace, name, queue) = names;
        let retry = RetryPolicy { max_attempts, initial, max, backoff };
        Job {
            namespace, name, handler, description, queue, timeout, retry, on_lost, on_success, on_failure, on_finish,
            ..limited
        }
    }
}

prop_compose! {
    fn any_limits()(
        jitter in prop_oneof![Just(HumanDuration::ZERO), duration()],
        starts_at in prop::option::of(instant()), ends_at in prop::option::of(instant()),
        max_fires in prop::option::of(any::<u64>()), except in day_rules(), only in day_rules(),
        pause_after_failures in prop::option::of(any::<u32>()), queue_max in any::<u32>(), count_manual in any::<bool>(),
        gap in prop::option::of(prop::sample::select(vec![Gap::RunAfter, Gap::Skip])),
        fold in prop::option::of(prop::sample::select(vec![Fold::First, Fold::Second, Fold::Both])),
    ) -> Schedule {
        let plain = Schedule::new("", "", Timing::Cron(String::new()), "");
        let dst = Dst { gap, fold };
        Schedule {
            jitter, starts_at, ends_at, max_fires, except, only, pause_after_failures, queue_max, count_manual, dst, ..plain
        }
    }
}

prop_compose! {
    fn any_schedule()(
        limits in any_limits(),
        names in (name(), name()), description in prop::option::of(".*"),
        timing in prop_oneof![
            ".*".prop_map(Timing::Cron),
            duration().prop_map(Timing::Every),
            instant().prop_map(Timing::At),
        ],
        trigger in prop::collection::vec("[a-z]{1,5}", 1..4), input in any_json(), window in duration(),
        overlap in prop::sample::select(vec![
            Overlap::Allow, Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning,
        ]),
        policy in prop::sample::select(vec![CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All]),
        max in any::<u32>(),
    ) -> Schedule {
        let (namespace, name) = names;
        let catch_up = CatchUp { policy, window, max };
        Schedule { namespace, name, description, timing, trigger, input, overlap, catch_up, ..limits }
    }
}

const PIECES: &[&str] = &[
    "version: 1\n",
    "jobs:\n",
    "schedules:\n",
    "  a:\n",
    "    ",
    "command: ",
    "cron: ",
    "every: 5s\n",
    "trigger: a\n",
    "http: ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "- ",
    "\n",
    "&x ",
    "*x",
    "\"",
    "'",
    "${env:",
    "}}",
    "{{",
    "headers: ",
    "env: ",
    "0777",
    "~",
    "? ",
    "|",
    ">",
    "#",
    "\t",
    "\r",
    "ä",
    "\u{85}",
    "\u{feff}",
    "---\n",
    "!!str ",
    "<<: ",
    "* * * * *",
    "defaults: ",
    "retry: ",
    "calendars: ",
    "except: [",
    "only: [SAT",
    "2026-12-24/",
    "on_success: [",
    "job: a",
    "overlap: ",
    "at: 2026-12-25T00:00:00Z\n",
    "jitter: ",
    "concurrency: ",
    "rate: ",
    "100/m",
    "unique: {",
    "verify: ",
    "cancel: ",
    "succeeded: ",
    "status == ",
    "key: ",
    "while: ",
    "dst: ",
    "%",
    "@",
    "input: ",
    "https://a:b@c",
    "\\",
    "\u{2028}",
    "日本",
];

/// Pieces of schedule files in any order.
fn nearly_a_file() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn definitions_survive_json(
        jobs in prop::collection::vec(any_job(), 0..3),
        schedules in prop::collection::vec(any_schedule(), 0..3),
        revision in prop::option::of(any::<u64>()),
    ) {
        let definitions = Definitions { revision, jobs, schedules };
        let read: Definitions = serde_json::from_str(&serde_json::to_string(&definitions).unwrap()).unwrap();
        prop_assert_eq!(read.digest(), definitions.digest());
        prop_assert_eq!(read, definitions);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[ -~\\n\\t]{0,200}") {
        let _ = read(&text).map_err(|faults| faults.render(true));
    }

    #[test]
    fn every_fault_has_a_place_in_the_text(text in nearly_a_file()) {
        if let Err(faults) = read(&text) {
            prop_assert!(!faults.is_empty());
            let lines = text.split(['\n', '\r']).count();
            for fault in &faults {
                prop_assert!(fault.line.is_some_and(|line| (1..=lines).contains(&line)), "{faults}");
                prop_assert!(!fault.message.contains("can't be understood"), "{faults}");
            }
            let _ = faults.render(true);
        }
    }
}
