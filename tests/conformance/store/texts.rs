//! Texts from outside that a database might choke on: one such must not hold up a whole batch for ever.

use std::time::Duration;

use reveille_shared::cloud_event::{Named, RefusedEvent};
use reveille_shared::state::Status;
use reveille_shared::store::{Acceptance, IdempotencyKey, Outcome, Progress, Report, Via};
use reveille_shared::work_request::{LogLine, RunError, Stream};
use serde_json::json;

use crate::bed::{Bed, NAMESPACE, on_both, succeeded};
use crate::idempotency::named;

/// NUL, quotes, a backslash before a `u0000` that is none, the edges of Unicode.
const NASTY: &str = "a\0b'\"; DROP TABLE x; --\\u0000 \u{1} \u{fffd} \u{10ffff} ümlaut\r\n";

on_both!(nasty_texts_are_kept_or_cleaned_but_hold_up_nobody, big_and_deep_json_comes_back_unchanged);

fn cleaned() -> String {
    NASTY.replace('\0', "\u{fffd}")
}

async fn nasty_texts_are_kept_or_cleaned_but_hold_up_nobody(bed: Bed) {
    let mut request = bed.new_request().await;
    request.input = json!({ NASTY: [NASTY, { "deep": NASTY }] });
    request.resource = Some(json!(NASTY));
    request.by = NASTY.into();
    let key = IdempotencyKey { key: cleaned(), fields: [(cleaned(), cleaned())].into(), ..named("k") };
    let id = request.id;
    assert_eq!(bed.store.accept(request, Some(&key)).await.unwrap(), Acceptance::New(id));
    let kept = bed.get(id).await;
    assert_eq!(kept.input, json!({ cleaned(): [cleaned(), { "deep": cleaned() }] }));
    assert_eq!(kept.resource, Some(json!(cleaned())));

    let trigger = bed.take().await.remove(0).trigger;
    bed.store.unsend(&[(trigger, Duration::ZERO, Some(NASTY.into()))]).await.unwrap();
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    let (good, bad) = (bed.running().await, bed.running().await);
    let progress = |run: &reveille_shared::store::Claimed, message: &str| Progress {
        id: run.id,
        token: run.token,
        percent: 5.0,
        message: Some(message.into()),
    };
    bed.store.progress(&[progress(&run, NASTY), progress(&good, "fine")]).await.unwrap();
    assert_eq!(bed.get(run.id).await.message, Some(cleaned()));
    assert_eq!(bed.get(good.id).await.message, Some("fine".into()));

    let at = bed.now().await;
    let line = LogLine { attempt: 1, seq: 1, at, stream: Stream::Stdout, text: NASTY.into() };
    bed.store.append_logs(&[(run.id, line)]).await.unwrap();
    assert_eq!(bed.store.logs(run.id, (0, 0), 10).await.unwrap()[0].text, cleaned());

    let report = |run: &reveille_shared::store::Claimed, outcome| Report::new(run.id, run.token, outcome);
    let error = RunError::new("ExitCode", NASTY);
    let answers = bed.store.report(vec![
        report(&run, Outcome::Succeeded { output: json!({ "said": NASTY }) }),
        report(&bad, Outcome::Failed { error, retry: None }),
        report(&good, succeeded()),
    ]);
    assert_eq!(answers.await.unwrap(), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(bed.store.output(run.id).await.unwrap(), Some(json!({ "said": cleaned() })));
    assert_eq!(bed.get(bad.id).await.error, Some(RunError::new("ExitCode", cleaned())));
    assert_eq!(bed.status(good.id).await, Status::Succeeded);
    assert_eq!(bed.told(bad.id).await, ["accepted", "started", "failed"]);
    let named =
        Named { source: Some(NASTY.into()), id: Some(NASTY.into()), kind: Some(NASTY.into()), ..Named::default() };
    let refused = RefusedEvent { code: "Malformed", message: NASTY.into(), of: Box::new(named) };
    bed.store.take_events(Via::Rest, vec![Err(refused)], || 0.5).await.unwrap();
    let kept = bed.store.refused_events(None, 1).await.unwrap().remove(0);
    assert_eq!((kept.message, kept.of.id), (cleaned(), Some(cleaned())));
    let waiting = bed.running().await.id;
    bed.store.cancel(NAMESPACE, waiting, NASTY.into()).await.unwrap();
    assert_eq!(bed.status(waiting).await, Status::Canceling);
}

async fn big_and_deep_json_comes_back_unchanged(bed: Bed) {
    let mut deep = json!(null);
    for at in 0..100 {
        deep = json!({ "in": deep, "at": at, "f": 0.1, "big": u64::MAX, "small": i64::MIN });
    }
    let mut request = bed.new_request().await;
    request.input = json!({ "deep": deep, "long": "x".repeat(200_000) });
    let input = request.input.clone();
    bed.accept(request).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!(run.input, input);
    bed.report(&run, Outcome::Succeeded { output: input.clone() }).await.unwrap();
    assert_eq!(bed.store.output(run.id).await.unwrap(), Some(input));
    assert_eq!(bed.store.output(bed.accepted().await).await.unwrap(), None);
    let null = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&null, Outcome::Succeeded { output: json!(null) }).await.unwrap();
    assert_eq!(bed.store.output(null.id).await.unwrap(), Some(json!(null)), "it answered null");
}
