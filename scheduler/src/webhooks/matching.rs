//! Pass: entries of histories → deliveries, one for each webhook that wants it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{Generation, Matched, Store, StoreError, Untold, Webhook};
use reveille_shared::telemetry::chain;
use tokio::sync::Notify;

use super::Webhooks;
use crate::leader::Leadership;

/// How often to look whether something has happened.
pub const PERIOD: Duration = Duration::from_millis(250);
/// Entries that are looked at in one transaction.
const BATCH: i64 = 500;

/// What a pass has found.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatchReport(Matched);

impl fmt::Display for MatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Matched { entries, deliveries }) = self;
        write!(f, "{deliveries} deliveries of {entries} entries")
    }
}

/// Decides who is told what has happened, while this process leads.
///
/// - Reads: entries that somebody may want, webhooks.
/// - Writes: deliveries, and takes the entries out in the same transaction; encrypts secrets by the first key.
/// - Repeating is safe: an entry that was looked at is gone.
/// - A crash here leaves entries that the next pass looks at.
pub struct Matcher {
    store: Store,
    leadership: Arc<Leadership>,
    webhooks: Arc<Webhooks>,
    /// Wakes who sends.
    sender: Arc<Notify>,
    /// Under which generation secrets were looked at.
    renewed: Option<Generation>,
}

impl Matcher {
    /// A matcher that acts while this process leads, and wakes `sender` when there is something to send.
    #[must_use]
    pub fn new(store: Store, leadership: Arc<Leadership>, webhooks: Arc<Webhooks>, sender: Arc<Notify>) -> Self {
        Self { store, leadership, webhooks, sender, renewed: None }
    }

    /// Encrypts all secrets by the first key, so that the others can be forgotten.
    async fn renew_secrets(&self) -> Result<(), StoreError> {
        let Some(keys) = &self.webhooks.keys else { return Ok(()) };
        for webhook in self.store.every_webhook().await? {
            let old = webhook.old_secret.as_ref().map(|(secret, _)| secret);
            for sealed in [Some(&webhook.secret), old].into_iter().flatten() {
                let renewed = match keys.renewed(webhook.id, sealed) {
                    Ok(None) => continue,
                    Ok(Some(renewed)) => renewed,
                    Err(error) => {
                        tracing::error!(webhook = %webhook.id, error = chain(&error), "a webhook's secret can't be decrypted");
                        continue;
                    }
                };
                let replace = |known: &mut Webhook, _| {
                    let olds = known.old_secret.as_mut().map(|(secret, _)| secret);
                    let its = [Some(&mut known.secret), olds].into_iter().flatten().find(|its| *its == sealed);
                    if let Some(its) = its {
                        *its = renewed;
                    }
                };
                self.store.change_webhook(&webhook.namespace, webhook.id, replace, None).await?;
            }
        }
        Ok(())
    }
}

/// Whether a webhook wants to be told an entry.
fn wants(webhook: &Webhook, entry: &Untold) -> bool {
    let filter = &webhook.filter;
    let of = |names: &[String], name: Option<&str>| {
        names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known == name))
    };
    webhook.namespace == entry.namespace
        && entry.event.at >= webhook.created_at
        && entry.event.what.status().is_some_and(|status| filter.statuses.contains(&status))
        && of(&filter.jobs, Some(&entry.job))
        && of(&filter.schedules, entry.schedule.as_deref())
}

#[async_trait]
impl Pass for Matcher {
    const NAME: &'static str = "webhook matcher";
    type Report = MatchReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(MatchReport, Option<Duration>), StoreError> {
        let mut report = Matched::default();
        while let Some(generation) = self.leadership.current() {
            if self.renewed != Some(generation) {
                self.renew_secrets().await?;
                self.renewed = Some(generation);
            }
            let matched = match self.store.match_webhooks(generation, BATCH, wants).await {
                Ok(matched) => matched,
                Err(StoreError::Deposed) => {
                    self.leadership.depose(generation);
                    break;
                }
                Err(error) => return Err(error),
            };
            report.entries += matched.entries;
            report.deliveries += matched.deliveries;
            if matched.deliveries > 0 {
                self.sender.notify_one();
            }
            if i64::try_from(matched.entries).is_ok_and(|entries| entries < BATCH) {
                break;
            }
        }
        Ok((MatchReport(report), None))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use reveille_shared::state::Status;
    use reveille_shared::store::{Sealed, WebhookFilter};
    use reveille_shared::work_request::{Happening, HistoryEvent, WorkRequestId};
    use uuid::Uuid;

    use super::*;

    fn entry(what: Happening, at: i64, schedule: Option<&str>) -> Untold {
        let at = Timestamp::from_second(at).unwrap();
        let (id, event) = (WorkRequestId::new(at), HistoryEvent { seq: 3, at, what });
        let schedule = schedule.map(str::to_owned);
        Untold { number: 1, id, namespace: "billing".into(), job: "close".into(), schedule, event }
    }

    fn hook(jobs: &[&str], schedules: &[&str], statuses: &[Status]) -> Webhook {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let filter = WebhookFilter { jobs: owned(jobs), schedules: owned(schedules), statuses: statuses.to_vec() };
        let hook = Webhook::new(Uuid::new_v4(), "billing", "https://a.test/", filter, Sealed(Vec::new()));
        Webhook { created_at: Timestamp::from_second(100).unwrap(), ..hook }
    }

    #[test]
    fn a_webhook_wants_what_all_of_its_filters_let_through() {
        let canceled = || Happening::Canceled { attempt: 0, token: None, by: None };
        let [ends, starts] = [&[Status::Canceled][..], &[Status::InProgress]];
        for (jobs, schedules, statuses, schedule, wanted) in [
            (&[][..], &[][..], ends, None, true),
            (&[], &[], starts, None, false),
            (&["close"], &[], ends, None, true),
            (&["open"], &[], ends, None, false),
            (&["open", "close"], &["nightly"], ends, Some("nightly"), true),
            (&[], &["nightly"], ends, Some("daily"), false),
            (&[], &["nightly"], ends, None, false),
        ] {
            let of = hook(jobs, schedules, statuses);
            assert_eq!(wants(&of, &entry(canceled(), 100, schedule)), wanted, "{of:?}");
        }
        assert!(!wants(&hook(&[], &[], ends), &entry(canceled(), 99, None)), "it happened before");
        assert!(!wants(&hook(&[], &[], &Status::ALL), &entry(Happening::Resent, 100, None)), "it changes no status");
        let other = Webhook { namespace: "other".into(), ..hook(&[], &[], ends) };
        assert!(!wants(&other, &entry(canceled(), 100, None)));
    }
}
