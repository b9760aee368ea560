//! Chains of jobs that lead back to where they begin: they would never end.

use std::collections::HashMap;

use super::across::Findings;
use super::node::{MOST_REMARKS, short};
use super::outline::{Name, Outline};
use super::source::{Remark, Span};

/// Calls of a longer circle are left out in the middle.
const MOST_SHOWN: usize = 12;

/// A job that calls others.
type Caller<'a> = (&'a str, &'a str);

/// One job calls another at the end of its run.
#[derive(Debug, Clone, Copy)]
struct Call {
    from: usize,
    to: usize,
    file: usize,
    name: Name,
}

/// Remarks on each call that closes a circle, over all files and all kinds of chains. Takes time in proportion to the
/// number of calls.
pub(super) fn check<'a>(
    files: impl Iterator<Item = (usize, &'a Outline)> + Clone,
    findings: &mut Findings,
    place: &dyn Fn(usize, Span) -> String,
) {
    let mut callers: Vec<Caller<'a>> = Vec::new();
    let mut numbers: HashMap<Caller<'a>, usize> = HashMap::new();
    for (_, outline) in files.clone() {
        for (job, _) in &outline.calls {
            let caller = (&*outline.namespace, outline.text(*job));
            numbers.entry(caller).or_insert_with(|| {
                callers.push(caller);
                callers.len() - 1
            });
        }
    }
    let mut calls = Vec::new();
    for (file, outline) in files {
        for (job, name) in &outline.calls {
            let number = |name| numbers.get(&(&*outline.namespace, outline.text(name)));
            // A job that calls nobody can't be part of a circle.
            if let (Some(&from), Some(&to)) = (number(*job), number(*name)) {
                calls.push(Call { from, to, file, name: *name });
            }
        }
    }
    calls.sort_by_key(|call| call.from);
    for circle in circles(callers.len(), &calls) {
        if findings.len() >= MOST_REMARKS {
            return;
        }
        findings.extend(remark(&circle, &callers, place));
    }
}

/// The calls of a circle, the closing one last. Of a long one those in the middle are left out.
#[derive(Debug)]
struct Circle {
    first: Vec<Call>,
    left_out: usize,
    rest: Vec<Call>,
}

impl Circle {
    fn of(way: &[Step], calls: &[Call]) -> Self {
        let left_out = way.len().saturating_sub(MOST_SHOWN);
        let (first, rest) = way.split_at(if left_out > 0 { MOST_SHOWN / 2 } else { way.len() });
        let taken = |steps: &[Step]| steps.iter().map(|step| calls[step.next - 1]).collect();
        Self { first: taken(first), left_out, rest: taken(&rest[left_out..]) }
    }
}

/// A job on the way of a walk.
struct Step {
    job: usize,
    /// The number of the call to look at next.
    next: usize,
}

/// A circle for each call that leads back into the way of a walk into the depth. Without these calls there is none.
fn circles(callers: usize, calls: &[Call]) -> impl Iterator<Item = Circle> {
    const NEW: usize = usize::MAX;
    const DONE: usize = usize::MAX - 1;
    let start = |job: usize| Step { job, next: calls.partition_point(|call| call.from < job) };
    // For each job, where on the way it is.
    let mut place = vec![NEW; callers];
    let mut way: Vec<Step> = Vec::new();
    let mut roots = 0..callers;
    std::iter::from_fn(move || {
        loop {
            let Some(step) = way.last_mut() else {
                let root = roots.find(|root| place[*root] == NEW)?;
                place[root] = 0;
                way.push(start(root));
                continue;
            };
            let Some(call) = calls.get(step.next).filter(|call| call.from == step.job) else {
                place[step.job] = DONE;
                way.pop();
                continue;
            };
            step.next += 1;
            match place[call.to] {
                DONE => {}
                NEW => {
                    place[call.to] = way.len();
                    way.push(start(call.to));
                }
                back => return Some(Circle::of(&way[back..], calls)),
            }
        }
    })
}

/// What is wrong with the last call of a circle.
fn remark(circle: &Circle, callers: &[Caller<'_>], place: &dyn Fn(usize, Span) -> String) -> Option<(usize, Remark)> {
    let Circle { first, left_out, rest } = circle;
    let last = rest.last().or(first.last())?;
    let name = |job: usize| short(callers[job].1);
    if first.len() + rest.len() == 1 {
        let remark = Remark::new(last.name.span(), format!("`{}` calls itself, and would without end", name(last.to)));
        let hint = "remove it; `retry` repeats a run that failed, and a schedule any run";
        return Some((last.file, remark.hint(hint)));
    }
    let list = |calls: &[Call]| calls.iter().map(|call| format!(" → {}", name(call.to))).collect::<String>();
    let skipped = if *left_out > 0 { format!(" → … {left_out} more …") } else { String::new() };
    let names = format!("{}{}{skipped}{}", name(last.to), list(first), list(rest));
    let places = first
        .iter()
        .chain(rest)
        .map(|call| format!("{} → {} at {}", name(call.from), name(call.to), place(call.file, call.name.span())));
    let hint = format!("take out one of the calls: {}", places.collect::<Vec<_>>().join(", "));
    let remark = Remark::new(last.name.span(), format!("these jobs call each other without end: {names}"));
    Some((last.file, remark.hint(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles among jobs that are numbers.
    fn found(callers: usize, edges: &[(usize, usize)]) -> Vec<Vec<(usize, usize)>> {
        let calls: Vec<_> =
            edges.iter().map(|(from, to)| Call { from: *from, to: *to, file: 0, name: Name::default() }).collect();
        let edges = |circle: Circle| circle.first.iter().chain(&circle.rest).map(|call| (call.from, call.to)).collect();
        circles(callers, &calls).map(edges).collect()
    }

    #[test]
    fn every_call_that_closes_a_circle_is_found_with_the_way() {
        assert_eq!(found(3, &[(0, 1), (1, 2)]), Vec::<Vec<_>>::new());
        assert_eq!(found(3, &[(0, 1), (0, 2), (1, 2)]), Vec::<Vec<_>>::new(), "two ways are no circle");
        assert_eq!(found(3, &[(0, 1), (1, 2), (2, 0)]), [[(0, 1), (1, 2), (2, 0)]]);
        assert_eq!(found(1, &[(0, 0)]), [[(0, 0)]]);
        let two = [vec![(1, 2), (2, 3), (3, 1)], vec![(1, 2), (2, 1)]];
        assert_eq!(found(4, &[(0, 1), (1, 2), (2, 3), (2, 1), (3, 1)]), two);
        assert_eq!(found(4, &[(0, 1), (1, 0), (2, 3), (3, 2)]), [[(0, 1), (1, 0)], [(2, 3), (3, 2)]]);
    }

    #[test]
    fn a_hundred_thousand_jobs_take_no_time() {
        let jobs = 100_000;
        let started = std::time::Instant::now();
        let ring: Vec<_> = (0..jobs).map(|job| (job, (job + 1) % jobs)).collect();
        let circles = found(jobs, &ring);
        assert_eq!((circles.len(), circles[0].len()), (1, MOST_SHOWN));
        let back: Vec<_> = (0..jobs).flat_map(|job| [(job, (job + 1).min(jobs - 1)), (job, 0)]).collect();
        assert_eq!(found(jobs, &back).len(), jobs + 1);
        // Milliseconds in truth; the limit is for a loaded machine and a debug build.
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "took {:?}", started.elapsed());
    }

    #[test]
    fn without_the_calls_that_close_them_there_are_no_circles() {
        let mut luck = 7_u64;
        let mut random = move |below: u64| {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((luck >> 33) % below).unwrap()
        };
        for _ in 0..1_000 {
            let jobs = 1 + random(8);
            let mut edges: Vec<_> = (0..random(16)).map(|_| (random(8) % jobs, random(8) % jobs)).collect();
            edges.sort_unstable();
            let circles = found(jobs, &edges);
            for circle in &circles {
                assert!(circle.iter().all(|edge| edges.contains(edge)), "{edges:?} {circle:?}");
                assert!(circle.windows(2).all(|pair| pair[0].1 == pair[1].0), "{edges:?} {circle:?}");
                assert_eq!(circle[0].0, circle[circle.len() - 1].1, "{edges:?} {circle:?}");
            }
            edges.retain(|edge| circles.iter().all(|circle| circle.last() != Some(edge)));
            assert_eq!(found(jobs, &edges), Vec::<Vec<_>>::new());
        }
    }
}
