//! Events and log lines.

use std::time::Duration;

use reveille_shared::work_request::{Happening, LogLine, Stream, WorkRequestId};
use uuid::Uuid;

use crate::bed::{Bed, failed, on_both, succeeded};

on_both!(
    a_history_is_numbered_without_gaps_and_ends_with_the_end,
    a_history_can_be_paged,
    log_lines_are_kept_once_and_in_order,
);

async fn a_history_is_numbered_without_gaps_and_ends_with_the_end(bed: Bed) {
    let mut run = bed.running().await;
    for _ in 0..3 {
        bed.report(&run, failed(Some(Duration::ZERO))).await.unwrap();
        let trigger = bed.take().await.remove(0).trigger;
        bed.store.unsend(&[(trigger, Duration::ZERO, Some("nack".into()))]).await.unwrap();
        run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    }
    bed.report(&run, succeeded()).await.unwrap();
    let history = bed.history(run.id).await;
    assert_eq!(history.len(), 2 + 3 * 3 + 1);
    assert!(matches!(history[0], Happening::Accepted { .. }));
    assert_eq!(history[11], Happening::Succeeded { attempt: 4, token: Some(run.token), verified: false });
    let times: Vec<_> = bed.store.events(run.id, 0, 100).await.unwrap().iter().map(|event| event.at).collect();
    assert!(times.is_sorted());
}

async fn a_history_can_be_paged(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, failed(None)).await.unwrap();
    let page = bed.store.events(run.id, 1, 1).await.unwrap();
    assert_eq!(page.iter().map(|event| event.seq).collect::<Vec<_>>(), [2]);
    assert!(bed.store.events(run.id, 3, 10).await.unwrap().is_empty());
    assert!(bed.store.events(WorkRequestId(Uuid::from_u128(5)), 0, 10).await.unwrap().is_empty());
}

async fn log_lines_are_kept_once_and_in_order(bed: Bed) {
    let id = bed.accepted().await;
    let at = bed.now().await;
    let line = |attempt, seq, stream, text: &str| (id, LogLine { attempt, seq, at, stream, text: text.into() });
    let first = [line(1, 2, Stream::Stderr, "two"), line(1, 1, Stream::Stdout, "one")];
    let second = [
        line(2, 1, Stream::System, "timed out"),
        line(1, 2, Stream::Stdout, "not two"),
        line(1, 3, Stream::Stdout, ""),
    ];
    bed.store.append_logs(&first).await.unwrap();
    bed.store.append_logs(&first).await.unwrap();
    bed.store.append_logs(&second).await.unwrap();
    bed.store.append_logs(&[]).await.unwrap();
    let expected = [first[1].1.clone(), first[0].1.clone(), second[2].1.clone(), second[0].1.clone()];
    assert_eq!(bed.store.logs(id, (0, 0), 10).await.unwrap(), expected, "what was said first stands");
    assert_eq!(bed.store.logs(id, (1, 2), 1).await.unwrap(), expected[2..3]);
    assert_eq!(bed.store.logs(id, (1, 3), 10).await.unwrap(), expected[3..]);
    assert!(bed.store.logs(bed.accepted().await, (0, 0), 10).await.unwrap().is_empty());
}
