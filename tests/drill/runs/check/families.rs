//! Whether runs and their children agree: how many there are, what became of them, and what that means for their parent.
//! Pure.

use std::collections::HashMap;

use uuid::Uuid;

use crate::jobs::{self, CHILD, Children, Fail};
use crate::load::{Asked, Siblings};
use crate::records::{Counts, Story};

/// What is wrong with all of them.
pub(super) fn faults(stories: &[Story], asked: &HashMap<String, Asked>) -> Vec<String> {
    let mut children: HashMap<Uuid, Vec<&Story>> = HashMap::new();
    for (parent, story) in stories.iter().filter_map(|story| Some((story.parent?, story))) {
        children.entry(parent).or_default().push(story);
    }
    let mut faults = Vec::new();
    for story in stories {
        let born = children.remove(&story.id).unwrap_or_default();
        let of_caller = story.key.as_ref().and_then(|key| asked.get(key));
        let wanted = of_caller.and_then(|asked| asked.children);
        let found = match (&story.children, wanted) {
            (Some(counts), Some(wanted)) => of_family(story, counts, wanted, &born),
            (Some(_), None) => vec!["nobody has asked for it and its children".to_owned()],
            (None, _) => of_childless(story, &born),
        };
        let (id, job, status) = (story.id, &story.job, &story.status);
        faults.extend(found.into_iter().map(|fault| format!("{id} of {job}, {status}: {fault}")));
    }
    faults.extend(children.into_keys().map(|parent| format!("children of {parent}: nobody knows it")));
    faults
}

/// Without a row of its own a run has none, and it is not one that must.
fn of_childless(story: &Story, born: &[&Story]) -> Vec<String> {
    let mut faults = Vec::new();
    if !born.is_empty() {
        faults.push(format!("{} children are there, and no count of them", born.len()));
    }
    let has_split = story.history.iter().any(|event| event.kind() == "split");
    let calls = match jobs::find(&story.job).and_then(|job| job.children) {
        Some(Children::OfCaller) => story.parent.is_none(),
        Some(Children::OfHandler(_)) => story.status == "SUCCEEDED",
        None => false,
    };
    if has_split || calls {
        faults.push("it has no children, and should".to_owned());
    }
    faults
}

fn of_family(parent: &Story, counts: &Counts, wanted: Siblings, born: &[&Story]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, fault: &dyn Fn() -> String| {
        if !holds {
            faults.push(fault());
        }
    };
    let Siblings { count, fail } = wanted;
    let number = |number: i32| usize::try_from(number).unwrap_or(usize::MAX);
    must(number(counts.total) == count, &|| format!("{count} children were asked for, {} are to be", counts.total));
    must(counts.policy == fail.to_string(), &|| format!("its policy is {}, {fail} was asked for", counts.policy));
    must(number(counts.born) == born.len(), &|| {
        format!("{} children are there, {} are counted", born.len(), counts.born)
    });
    must(counts.born <= counts.total, &|| "there are more than were asked for".to_owned());
    let split = parent.history.iter().find(|event| event.kind() == "split");
    let told = split.and_then(|event| event.what["children"].as_i64());
    must(split.is_none() == born.is_empty() || told.is_some(), &|| {
        "its history does not tell of its children".to_owned()
    });
    must(told.is_none_or(|told| told == i64::from(counts.total)), &|| {
        format!("its history tells of {told:?} children")
    });
    for (status, counted) in [("SUCCEEDED", counts.succeeded), ("FAILED", counts.failed), ("CANCELED", counts.canceled)]
    {
        let there = born.iter().filter(|child| child.status == status).count();
        must(there == number(counted), &|| format!("{there} children have {status}, {counted} are counted"));
    }
    must(born.iter().all(|child| child.job == CHILD), &|| format!("some children are no runs of {CHILD}"));
    let stopped = counts.stopped.as_deref();
    must(stopped.is_some() || counts.born == counts.total, &|| {
        "not all children were made, and nobody says why".to_owned()
    });
    must(stopped.is_some() || counts.canceled == 0, &|| "children were canceled, and nobody says why".to_owned());
    let late = born.iter().filter(|child| ended_us(child) > ended_us(parent)).count();
    must(late == 0, &|| format!("it ended before {late} of its children"));
    if let Some(fault) = misjudged(parent, counts, fail) {
        faults.push(fault);
    }
    faults
}

/// Instant of the last entry; nothing ends later than what has not ended.
fn ended_us(story: &Story) -> i64 {
    let terminal = |kind: &str| matches!(kind, "succeeded" | "failed" | "canceled");
    let end = story.history.last().filter(|event| terminal(event.kind()));
    end.map_or(i64::MAX, |event| event.at_us)
}

/// Whether the counts do not mean what became of the parent, by the policy as it is documented.
fn misjudged(parent: &Story, counts: &Counts, fail: Fail) -> Option<String> {
    let most = i32::try_from(fail.most(u32::try_from(counts.total).ok()?)).unwrap_or(i32::MAX);
    let too_many = counts.failed > most;
    let was_cut_short = counts.canceled > 0 || counts.born < counts.total;
    let was_canceled = parent.history.iter().any(|event| matches!(event.kind(), "cancelRequested" | "canceled"));
    let stop_fits = match counts.stopped.as_deref() {
        Some("failed") => too_many && fail != Fail::AtEnd,
        Some("canceled") => was_canceled,
        _ => true,
    };
    let end_fits = match parent.status.as_str() {
        "SUCCEEDED" => !too_many && !was_cut_short,
        "FAILED" => too_many && parent.error_code.as_deref() == Some("ChildFailed"),
        "CANCELED" => was_canceled && was_cut_short && counts.stopped.as_deref() == Some("canceled"),
        // That it has not ended is told elsewhere.
        _ => true,
    };
    (!stop_fits || !end_fits)
        .then(|| format!("{counts:?} do not mean this, with {:?}", parent.error_code.as_deref().unwrap_or("no error")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{event, story};
    use super::*;

    const PARENT: Uuid = Uuid::from_u128(7);

    /// A parent of four, of which this many have failed; the sample runs end at 8 s, it does at 9 s.
    fn family(failed: usize, fail: Fail) -> (Vec<Story>, HashMap<String, Asked>) {
        let too_many = failed > usize::try_from(fail.most(4)).unwrap();
        let end = if too_many { "failed" } else { "succeeded" };
        let history = [(0, json!({"type": "accepted"})), (1, json!({"type": "split", "attempt": 0, "children": 4}))];
        let mut history: Vec<_> = (1..).zip(history).map(|(seq, (at, what))| event(seq, at, what)).collect();
        history.push(event(3, 9, json!({"type": end, "attempt": 0})));
        let number = |number: usize| i32::try_from(number).unwrap();
        let parent = Story {
            id: PARENT,
            job: CHILD.to_owned(),
            status: end.to_uppercase(),
            error_code: too_many.then(|| "ChildFailed".to_owned()),
            children: Some(Counts {
                total: 4,
                born: 4,
                succeeded: number(4 - failed),
                failed: number(failed),
                canceled: 0,
                policy: fail.to_string(),
                stopped: None,
            }),
            history,
            ..story(CHILD)
        };
        let child = |number: usize| Story {
            id: Uuid::from_u128(u128::try_from(number).unwrap() + 10),
            key: None,
            parent: Some(PARENT),
            status: if number < failed { "FAILED" } else { "SUCCEEDED" }.to_owned(),
            ..story(CHILD)
        };
        let stories = std::iter::once(parent).chain((0..4).map(child)).collect();
        let children = Some(Siblings { count: 4, fail });
        (stories, HashMap::from([("key".to_owned(), Asked { id: PARENT, canceled: false, children })]))
    }

    fn found(failed: usize, fail: Fail, change: impl FnOnce(&mut Vec<Story>)) -> Vec<String> {
        let (mut stories, asked) = family(failed, fail);
        change(&mut stories);
        faults(&stories, &asked)
    }

    fn counts(stories: &mut [Story]) -> &mut Counts {
        stories[0].children.as_mut().unwrap()
    }

    /// Exactly one, with these words.
    fn is(found: &[String], words: &str) {
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }

    #[test]
    fn families_as_they_should_be_have_no_fault() {
        for failed in [0, 1, 3] {
            for fail in Fail::ALL {
                assert_eq!(found(failed, fail, |_| {}), Vec::<String>::new(), "{failed} {fail}");
            }
        }
        let stopped = |stories: &mut Vec<Story>| {
            stories.pop();
            stories[3].status = "CANCELED".to_owned();
            let counts = counts(stories);
            (counts.born, counts.succeeded, counts.canceled) = (3, 1, 1);
            counts.stopped = Some("failed".to_owned());
        };
        assert_eq!(found(1, Fail::Fast, stopped), Vec::<String>::new());
        let canceled = |stories: &mut Vec<Story>| {
            stopped(stories);
            counts(stories).stopped = Some("canceled".to_owned());
            stories[0].history[2].what = json!({"type": "cancelRequested"});
            stories[0].history.push(event(4, 9, json!({"type": "canceled", "attempt": 0})));
            stories[0].status = "CANCELED".to_owned();
        };
        assert_eq!(found(1, Fail::AtEnd, canceled), Vec::<String>::new());
    }

    #[test]
    fn a_parent_that_is_not_as_its_children_are_is_found() {
        is(&found(0, Fail::AtEnd, |stories| stories[0].history[2].at_us = 7_999_999), "before 4 of its children");
    }

    #[test]
    fn what_failed_children_mean_is_judged_anew() {
        let succeeds = |stories: &mut Vec<Story>| {
            stories[0].status = "SUCCEEDED".to_owned();
            stories[0].error_code = None;
        };
        is(&found(1, Fail::Fast, succeeds), "do not mean this");
        is(&found(3, Fail::Tolerate(2), succeeds), "do not mean this");
        assert_eq!(found(2, Fail::Tolerate(2), succeeds), Vec::<String>::new());
        let fails = |stories: &mut Vec<Story>| {
            stories[0].status = "FAILED".to_owned();
            stories[0].error_code = Some("ChildFailed".to_owned());
        };
        is(&found(2, Fail::Tolerate(2), fails), "do not mean this");
        is(&found(1, Fail::Fast, |stories| stories[0].error_code = Some("Lost".to_owned())), "do not mean this");
        is(&found(0, Fail::Fast, |stories| stories[0].status = "CANCELED".to_owned()), "do not mean this");
        is(&found(1, Fail::AtEnd, |stories| counts(stories).stopped = Some("failed".to_owned())), "do not mean this");
    }

    #[test]
    fn what_is_missing_or_too_much_is_found() {
        is(&found(0, Fail::Fast, |stories| counts(stories).policy = "at_end".to_owned()), "its policy");
        is(&found(0, Fail::Fast, |stories| stories[4].job = "short".to_owned()), "no runs of part");
        is(&found(0, Fail::Fast, |stories| stories[0].history[1].what["children"] = json!(5)), "tells of Some(5)");
        is(&found(0, Fail::Fast, |stories| drop(stories[0].history.remove(1))), "does not tell");
        is(&found(0, Fail::Fast, |stories| stories[0].key = None), "nobody has asked");
        is(&found(0, Fail::Fast, |stories| drop(stories.remove(0))), "nobody knows it");
        let uncounted = found(0, Fail::Fast, |stories| stories[0].children = None);
        assert!(uncounted[0].contains("no count") && uncounted[1].contains("and should"), "{uncounted:?}");
        let one_more = found(0, Fail::Fast, |stories| stories.push(Story { id: Uuid::nil(), ..stories[4].clone() }));
        assert!(one_more[0].contains("5 children are there, 4 are counted"), "{one_more:?}");
        let wrongly_counted = found(1, Fail::AtEnd, |stories| counts(stories).succeeded = 4);
        is(&wrongly_counted, "3 children have SUCCEEDED, 4 are counted");
        let unmade = found(0, Fail::AtEnd, |stories| {
            stories.pop();
            (counts(stories).born, counts(stories).succeeded) = (3, 3);
        });
        assert!(unmade[0].contains("not all children were made"), "{unmade:?}");
        let canceled = found(0, Fail::AtEnd, |stories| {
            stories[4].status = "CANCELED".to_owned();
            (counts(stories).canceled, counts(stories).succeeded) = (1, 3);
        });
        assert!(canceled[0].contains("children were canceled"), "{canceled:?}");
    }
}
