//! What happens, in one order for all who listen.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::{Feed, FeedEntry, FeedPart, Report, Store};
use reveille_shared::work_request::{Happening, WorkRequestId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::bed::{Bed, NAMESPACE, connect, failed, on_both, succeeded};

on_both!(
    each_entry_comes_once_and_in_the_order_of_its_run,
    what_happens_while_nobody_listens_is_not_numbered,
    another_goes_on_from_anywhere,
    what_is_not_whole_any_more_is_not_told,
    an_entry_that_changes_no_status_tells_the_one_there_is,
    what_was_deleted_is_passed_over,
);

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(60);

/// Listens until so many entries have come.
async fn hear(feed: &mut Feed, count: usize) -> Vec<FeedEntry> {
    let mut heard = Vec::new();
    let all = async {
        while heard.len() < count {
            heard.extend(feed.next(7).await.unwrap().expect("what follows is whole"));
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all).await.unwrap_or_else(|_| panic!("only {} of {count} were heard", heard.len()));
    heard
}

/// What was heard, by run, after a look at the order.
fn by_run(heard: &[FeedEntry]) -> BTreeMap<WorkRequestId, Vec<Happening>> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    assert!(heard.is_sorted_by(|one, next| one.number < next.number), "out of order, or twice");
    for entry in heard {
        assert_eq!((entry.namespace.as_str(), entry.job.as_str()), (NAMESPACE, "copy"));
        let so_far: &mut Vec<_> = runs.entry(entry.id).or_default();
        so_far.push(entry.event.what.clone());
        assert_eq!(i32::try_from(so_far.len()).unwrap(), entry.event.seq, "of {}", entry.id);
    }
    runs
}

/// One run after the other, from acceptance to its end: four entries each, or three.
async fn live(bed: &Bed, store: &Store, runs: usize) {
    for number in 0..runs {
        let id = bed.accepted().await;
        let out = store.take_due(1_000).await.unwrap();
        for trigger in out {
            let Ok(run) = bed.claim(&trigger.trigger).await else { continue };
            let outcome = if number % 3 == 0 { failed(None) } else { succeeded() };
            store.report(vec![Report::new(run.id, run.token, outcome)]).await.unwrap();
        }
        assert!(bed.store.work_request(NAMESPACE, id).await.unwrap().is_some());
    }
}

async fn each_entry_comes_once_and_in_the_order_of_its_run(bed: Bed) {
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let others = [bed.second().await, bed.second().await, bed.second().await];
    let mut other_feed = others[0].listen_to_feed().await.unwrap();
    let (heard, also, _) = tokio::join!(
        hear(&mut feed, 3 * 90),
        hear(&mut other_feed, 3 * 90),
        join_all(others.iter().map(|store| live(&bed, store, 30)))
    );
    assert_eq!(feed.next(100).await.unwrap(), Some(Vec::new()));
    assert_eq!(heard, also, "all hear the same");
    let runs = by_run(&heard);
    assert_eq!(runs.len(), 90);
    for (id, entries) in runs {
        assert_eq!(entries, bed.history(id).await);
    }
}

async fn what_happens_while_nobody_listens_is_not_numbered(bed: Bed) {
    let before = bed.accepted().await;
    assert_eq!(bed.store.feed_bounds().await.unwrap(), 0..=0);
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let floor = feed.position();
    assert!(floor > 0);
    let heard = bed.accepted().await;
    let entries = hear(&mut feed, 1).await;
    assert_eq!(entries[0].id, heard, "not {before}");
    assert_eq!(bed.store.feed_bounds().await.unwrap(), floor..=entries[0].number);
    // Whoever listens keeps it going.
    bed.store.keep_feed().await.unwrap();
    bed.store.trim_feed(Timestamp::UNIX_EPOCH, 10).await.unwrap();
    bed.accepted().await;
    hear(&mut feed, 1).await;
    // Nobody has for a while.
    let now = bed.now().await.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap();
    assert_eq!(bed.store.trim_feed(now, 10).await.unwrap(), 2);
    bed.accepted().await;
    assert_eq!(feed.next(10).await.unwrap(), Some(Vec::new()));
}

async fn another_goes_on_from_anywhere(bed: Bed) {
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let begin = feed.position();
    live(&bed, &bed.store, 8).await;
    let heard = hear(&mut feed, 3 * 8).await;
    let other = bed.second().await;
    for (seen, entry) in heard.iter().enumerate() {
        let mut rest = Vec::new();
        let mut position = entry.number;
        while position < feed.position() {
            let part = other.feed_before(position, feed.position(), 5).await.unwrap().unwrap();
            assert!(part.position > position);
            position = part.position;
            rest.extend(part.entries);
        }
        assert_eq!(rest, heard[seen + 1..]);
    }
    let all = other.feed_before(begin, feed.position(), 1_000).await.unwrap();
    assert_eq!(all, Some(FeedPart { position: feed.position(), entries: heard.clone() }));
    let middle = heard[10].number;
    let part = other.feed_before(begin, middle, 1_000).await.unwrap().unwrap();
    assert_eq!((part.position, &part.entries[..]), (middle, &heard[..11]), "and no further than was asked");
}

async fn what_is_not_whole_any_more_is_not_told(bed: Bed) {
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    for _ in 0..5 {
        bed.accepted().await;
    }
    let heard = hear(&mut feed, 5).await;
    let later = bed.now().await.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap();
    bed.store.keep_feed().await.unwrap();
    assert_eq!(bed.store.trim_feed(later, 2).await.unwrap(), 2);
    let bounds = bed.store.feed_bounds().await.unwrap();
    assert_eq!(bounds, heard[1].number..=heard[4].number);
    let rest = bed.store.feed_before(heard[1].number, heard[4].number, 10).await.unwrap().unwrap();
    assert_eq!(rest.entries, heard[2..]);
    assert_eq!(bed.store.feed_before(heard[0].number, heard[4].number, 10).await.unwrap(), None);
    // Nobody listens for a while, runs go on, and somebody listens again: in between there is a hole.
    bed.store.trim_feed(later, 2).await.unwrap();
    bed.accepted().await;
    bed.store.keep_feed().await.unwrap();
    bed.accepted().await;
    let bounds = bed.store.feed_bounds().await.unwrap();
    assert!(bounds.start() > &heard[4].number, "{bounds:?}");
    assert_eq!(feed.next(10).await.unwrap(), None);
    let last = heard[4].number;
    assert_eq!(
        bed.store.feed_before(last, *bounds.end(), 10).await.unwrap(),
        None,
        "not even behind the last that there was"
    );
}

async fn an_entry_that_changes_no_status_tells_the_one_there_is(bed: Bed) {
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let trigger = bed.sent().await;
    bed.store.unsend(&[(trigger, Duration::ZERO, Some("nobody takes it".into()))]).await.unwrap();
    let heard = hear(&mut feed, 2).await;
    let told = |entry: &FeedEntry| (entry.event.what.status(), entry.status);
    assert_eq!(told(&heard[0]), (Some(Status::Accepted), Some(Status::Accepted)));
    assert_eq!(told(&heard[1]), (None, Some(Status::Accepted)), "{:?}", heard[1]);
}

async fn what_was_deleted_is_passed_over(bed: Bed) {
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let gone = bed.accepted().await;
    let kept = bed.accepted().await;
    let id = if bed.is_sqlite() { format!("x'{}'", gone.0.simple()) } else { format!("'{gone}'") };
    bed.tamper(&format!("DELETE FROM events WHERE work_request_id = {id}")).await;
    let heard = hear(&mut feed, 1).await;
    assert_eq!((heard[0].id, feed.position()), (kept, heard[0].number));
}

/// A transaction on PostgreSQL that has written to a history and is not at its end.
struct Writer(PgConnection);

impl Writer {
    async fn begin(bed: &Bed, id: WorkRequestId, seq: i32) -> Self {
        let mut connection = PgConnection::connect(&bed.url).await.unwrap();
        let insert = format!(
            "BEGIN; INSERT INTO events (work_request_id, seq, at, what) VALUES ('{id}', {seq}, now(), '{{\"type\": \"resent\"}}')"
        );
        sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn end(mut self, how: &'static str) {
        sqlx::raw_sql(how).execute(&mut self.0).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_behind_a_number_that_may_still_appear_is_told() {
    let bed = Bed::postgres().await;
    let run = bed.accepted().await;
    let mut feed = bed.store.listen_to_feed().await.unwrap();
    let first = Writer::begin(&bed, run, 11).await;
    let second = Writer::begin(&bed, run, 12).await;
    let others = connect(&bed.url).await;
    let behind = bed.accepted().await;
    for _ in 0..10 {
        assert_eq!(feed.next(100).await.unwrap(), Some(Vec::new()));
    }
    // Who has not begun to write yet is not waited for.
    let third = Writer::begin(&bed, run, 13).await;
    second.end("ROLLBACK").await;
    assert_eq!(feed.next(100).await.unwrap(), Some(Vec::new()));
    first.end("COMMIT").await;
    let heard = hear(&mut feed, 2).await;
    assert_eq!(heard.iter().map(|entry| (entry.id, entry.event.seq)).collect::<Vec<_>>(), [(run, 11), (behind, 1)]);
    third.end("COMMIT").await;
    assert_eq!(hear(&mut feed, 1).await[0].event.seq, 13);
    // Another one that goes on from between them misses none either.
    let rest = others.feed_before(heard[0].number, feed.position(), 100).await.unwrap().unwrap();
    assert_eq!(rest.entries.iter().map(|entry| entry.event.seq).collect::<Vec<_>>(), [1, 13]);
}

#[tokio::test]
async fn who_begins_to_listen_waits_for_those_who_do_not_know() {
    let bed = Bed::postgres().await;
    let run = bed.accepted().await;
    let writer = Writer::begin(&bed, run, 11).await;
    let listening = timeout(Duration::from_millis(200), bed.store.listen_to_feed());
    assert!(listening.await.is_err(), "what is written there is neither before nor behind the position");
    writer.end("COMMIT").await;
    let mut feed = timeout(LONG, bed.store.listen_to_feed()).await.unwrap().unwrap();
    let heard = bed.accepted().await;
    assert_eq!(hear(&mut feed, 1).await[0].id, heard);
}
