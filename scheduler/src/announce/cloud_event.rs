//! An entry of a run's history, for whoever hears of it, as a CloudEvent 1.0 in structured JSON (<https://cloudevents.io>, JSON event format).

use reveille_shared::broker::Announcement;
use reveille_shared::store::Untold;
use serde_json::{Value, json};

use crate::api::time::Instant;
use crate::transition::{Transition, Whose};

/// What comes before an entry's type.
const TYPE: &str = "io.reveille.workRequest.";

/// The key is `TYPE.NAMESPACE.JOB`.
pub(super) fn announcement(untold: &Untold) -> Announcement {
    let Untold { namespace, job, .. } = untold;
    let data = transition(untold);
    let key = format!("{}.{namespace}.{job}", data.what());
    Announcement { key, body: document(untold, data).into_bytes() }
}

/// The event's id, the same for all who hear of it.
pub(crate) fn id(untold: &Untold) -> String {
    format!("{}/{}", untold.id, untold.event.seq)
}

/// The event.
pub(crate) fn text(untold: &Untold) -> String {
    document(untold, transition(untold))
}

fn transition(untold: &Untold) -> Transition {
    let Untold { number: _, id, namespace, job, schedule, event } = untold;
    let whose = Whose { id: *id, namespace: namespace.clone(), job: job.clone(), schedule: schedule.clone() };
    Transition::new(whose, event.clone(), event.what.status())
}

fn document(untold: &Untold, data: Transition) -> String {
    let Untold { id: run, namespace, job, event, .. } = untold;
    let event = json!({
        "specversion": "1.0",
        "id": id(untold),
        "source": format!("/namespaces/{namespace}/jobs/{job}"),
        "type": format!("{TYPE}{}", data.what()),
        "subject": run.to_string(),
        "time": Instant(event.at).to_string(),
        "datacontenttype": "application/json",
        // The extension of this name: texts that order as the numbers do.
        "sequence": format!("{:010}", event.seq),
        "data": serde_json::to_value(data).unwrap_or(Value::Null),
    });
    event.to_string()
}

#[cfg(test)]
mod tests {
    use reveille_shared::work_request::{Happening, HistoryEvent, RunError, WorkRequestId};

    use super::*;

    #[test]
    fn an_entry_is_a_cloud_event_with_a_key_to_choose_by() {
        let at = "2026-03-01T10:00:00.123456Z".parse().unwrap();
        let id: WorkRequestId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        let what = Happening::Failed { attempt: 2, token: None, error: RunError::new("Timeout", "too slow") };
        let (namespace, job, schedule) = ("billing".into(), "close".into(), Some("nightly".into()));
        let untold = Untold { number: 9, id, namespace, job, schedule, event: HistoryEvent { seq: 5, at, what } };
        let Announcement { key, body } = announcement(&untold);
        assert_eq!(key, "failed.billing.close");
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            event,
            json!({
                "specversion": "1.0",
                "id": "0198c0de-0000-7000-8000-000000000001/5",
                "source": "/namespaces/billing/jobs/close",
                "type": "io.reveille.workRequest.failed",
                "subject": "0198c0de-0000-7000-8000-000000000001",
                "time": "2026-03-01T10:00:00.123Z",
                "datacontenttype": "application/json",
                "sequence": "0000000005",
                "data": {
                    "workRequestId": "0198c0de-0000-7000-8000-000000000001",
                    "namespace": "billing",
                    "job": "close",
                    "schedule": "nightly",
                    "status": "FAILED",
                    "event": {
                        "seq": 5,
                        "timestamp": "2026-03-01T10:00:00.123Z",
                        "type": "failed",
                        "message": "failed: Timeout: too slow",
                        "attempt": 2,
                        "error": {"code": "Timeout", "message": "too slow"},
                    },
                },
            })
        );
    }
}
