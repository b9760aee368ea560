//! Reading again gives what reading anew gives.

use std::fs;

use proptest::prelude::*;
use reveille_shared::definition::{Reader, read_path, read_texts};

/// Texts that agree with each other, or don't.
const TEXTS: [&str; 20] = [
    "version: 1\njobs: { a: { function: f }, b: { function: g } }\n",
    "version: 1\nrevision: 7\njobs: { a: { function: other } }\n",
    "version: 1\njobs: { c: { function: f, on_success: a } }\n",
    "version: 1\njobs: { c: { function: f, on_failure: [b, d] }, d: { function: f, on_finish: c } }\n",
    "version: 1\njobs: { d: { function: f, on_success: { job: c, input: { a: 1 } } } }\n",
    "version: 1\nschedules: { s: { every: 5s, trigger: a } }\n",
    "version: 1\nschedules: { s: { every: 7s, trigger: [a, b] }, z: { every: 1h, trigger: d } }\n",
    "version: 1\nschedules: { r: { cron: '0 2 * * *', trigger: a, except: [holidays, SAT] } }\n",
    "version: 1\nschedules: { o: { at: 2026-12-25T12:00:00Z, trigger: a, except: [holidays] } }\n",
    "version: 1\ncalendars: { holidays: [2026-12-26] }\n",
    "version: 1\ncalendars: { holidays: [2026-12-25, 2026-12-26], others: [SUN] }\n",
    "version: 1\nnamespace: n\njobs: { a: { function: f } }\nschedules: { s: { every: 5s, trigger: a, only: [others] } }\n",
    "version: 1\nnamespace: n\ncalendars: { others: [MON-FRI] }\njobs: { a: { function: f } }\n",
    "version: 1\njobs: { e: { function: f, oops: 1 } }\nschedules: { q: { every: 5s, trigger: e } }\n",
    "version: 1\njobs: { e: { function: f } }\nschedules: { q: { every: 5s, trigger: nobody } }\n",
    "version: 1\njobs: { [ }\n",
    "nothing",
    "",
    "version: 1\n# a comment\njobs: { a: { function: f }, b: { function: g } }\n",
    "version: 1\nrevision: 3\n",
];

/// Which file is given which text. Of few names, so that texts meet; a text beyond the last one removes the file.
fn edit() -> impl Strategy<Value = (usize, usize)> {
    let good = prop::sample::select(vec![(0, 0), (0, 18), (1, 7), (2, 9), (2, 10), (3, 5), (4, 2), (5, 12), (5, 20)]);
    prop_oneof![2 => good, 1 => (0..6_usize, 0..TEXTS.len() + 4)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_edited_it_is_as_if_read_anew(
        edits in prop::collection::vec(edit(), 1..25),
    ) {
        let mut folder = [0, 7, 9, 5, TEXTS.len(), TEXTS.len()].map(|text| TEXTS.get(text));
        let texts = |folder: &[Option<&&str>]| -> Vec<_> {
            let named = folder.iter().enumerate().filter_map(|(name, text)| Some((format!("{name}.yaml"), (*text)?)));
            named.map(|(name, text)| (name, (*text).to_owned())).collect()
        };
        let mut reader = Reader::default();
        let mut good = reader.read_texts(&texts(&folder)).unwrap().clone();
        for (file, text) in edits {
            let before = folder[file];
            folder[file] = TEXTS.get(text);
            let texts = texts(&folder);
            let again = reader.read_texts(&texts).cloned();
            let anew = read_texts(&texts);
            prop_assert_eq!(&again, &anew);
            let at_fault = anew.as_ref().map_or_else(|faults| faults.len(), |_| 0);
            prop_assert!(reader.parsed() <= at_fault + usize::from(before != folder[file]));
            good = anew.unwrap_or(good);
            prop_assert_eq!(reader.definitions(), &good, "a fault leaves the last good definitions");
        }
    }
}

#[test]
fn a_folder_is_read_again_by_content() {
    // It may be read where waiting for a disk does no harm.
    fn in_any_thread(_: &(impl Send + 'static)) {}
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let mut reader = Reader::default();
    in_any_thread(&reader);
    let mut read = || {
        let again = reader.read(folder.path()).cloned();
        assert_eq!(again, read_path(folder.path()));
        (reader.parsed(), again.map(|definitions| definitions.digest()))
    };
    write("a.yaml", TEXTS[0]);
    write("b.yaml", TEXTS[5]);
    let (parsed, first) = read();
    assert!(parsed == 2 && first.is_ok());
    assert_eq!(read(), (0, first.clone()), "nothing has changed");
    write("b.yaml", &TEXTS[5].replace('5', "6"));
    let (parsed, second) = read();
    assert!(parsed == 1 && second.is_ok() && second != first, "a change that keeps the length");
    write("b.yaml", TEXTS[5]);
    assert_eq!(read(), (1, first.clone()));
    fs::rename(folder.path().join("b.yaml"), folder.path().join("c.yaml")).unwrap();
    assert_eq!(read().1, first);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    let (_, broken) = read();
    assert!(broken.unwrap_err().to_string().contains("there is no job `a`"));
    write("a.yaml", TEXTS[0]);
    assert_eq!(read().1, first);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    fs::remove_file(folder.path().join("c.yaml")).unwrap();
    assert!(read().1.is_err());
}
