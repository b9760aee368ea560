//! What a job says about how many of its runs may be under way, may start, or are the same → what its runs are counted by.

use jiff::Timestamp;
use reveille_shared::definition::Job;
use reveille_shared::store::{Limit, NewWorkRequest, UniqueKey};
use reveille_shared::template::Engine;
use reveille_shared::work_request::RunError;
use serde_json::{Value, json};

/// The longest key, in bytes.
const MAX_KEY: usize = 512;

/// Puts the job's limits on a run. One whose keys can't be rendered is refused, with the reason.
pub(super) fn put(request: &mut NewWorkRequest, job: &Job, now: Timestamp) {
    if let Err(error) = try_put(request, job, now) {
        request.refused.get_or_insert(error);
    }
}

fn try_put(request: &mut NewWorkRequest, job: &Job, now: Timestamp) -> Result<(), RunError> {
    if job.concurrency.is_none() && job.rate.is_none() && job.unique.is_none() {
        return Ok(());
    }
    let context = json!({
        "input": request.input,
        "job": job.name,
        "namespace": job.namespace,
        "schedule": request.fire.as_ref().map(|fire| fire.schedule.as_str()),
        "scheduled_for": request.fire.as_ref().map_or(now, |fire| fire.due_at).to_string(),
    });
    let key = |what: &str, template: Option<&str>| match template {
        None => Ok(format!("{what}:{}/{}", job.namespace, job.name)),
        Some(template) => {
            let text = rendered(what, template, &context)?;
            Ok::<_, RunError>(format!("{what}:{}/{}/{text}", job.namespace, job.name))
        }
    };
    if let Some(concurrency) = &job.concurrency {
        let key = key("concurrency", concurrency.key.as_deref())?;
        request.concurrency = Some(Limit { key, most: concurrency.limit, per: None });
    }
    if let Some(rate) = &job.rate {
        let key = key("rate", rate.key.as_deref())?;
        request.rate = Some(Limit { key, most: rate.limit, per: Some(rate.per) });
    }
    if let Some(unique) = &job.unique {
        request.unique = Some(UniqueKey { key: key("unique", Some(&unique.key))?, span: unique.span });
    }
    Ok(())
}

fn rendered(what: &str, template: &str, context: &Value) -> Result<String, RunError> {
    let value = Engine::new(context)
        .render_json(&Value::String(template.to_owned()))
        .map_err(|error| RunError::new("Template", format!("the key of {what} can't be rendered: {}", error.reason)))?;
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if text.len() > MAX_KEY {
        let told = format!("the key of {what} has {} bytes; {MAX_KEY} are allowed", text.len());
        return Err(RunError::new("Template", told));
    }
    Ok(text.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use reveille_shared::definition::{Concurrency, Handler, Rate, Unique, UniqueSpan};
    use reveille_shared::duration::HumanDuration;
    use reveille_shared::store::Versioned;

    use super::super::{Ask, request};
    use super::*;

    fn job() -> Job {
        let key = Some("{{ input.region }}".to_owned());
        Job {
            concurrency: Some(Concurrency { limit: 3, key: key.clone() }),
            rate: Some(Rate { limit: 100, per: HumanDuration::from_secs(60), key: None }),
            unique: Some(Unique { key: "{{ input.day }}-{{ job }}".into(), span: UniqueSpan::Running }),
            ..Job::new("billing", "invoice", Handler::Function("noop".into()))
        }
    }

    fn asked(input: Value) -> NewWorkRequest {
        let job = Versioned { item: job(), version: 1 };
        request(&job, Ask { input, by: "test".into(), ..Ask::default() }, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn keys_are_of_the_job_and_of_what_the_run_is_given() {
        let run = asked(json!({"region": "eu", "day": 7}));
        let concurrency = run.concurrency.unwrap();
        assert_eq!((concurrency.key.as_str(), concurrency.most), ("concurrency:billing/invoice/eu", 3));
        assert_eq!(run.rate.unwrap().key, "rate:billing/invoice");
        assert_eq!(run.unique.unwrap().key, "unique:billing/invoice/7-invoice");
        assert_eq!(run.refused, None);
    }

    #[test]
    fn a_key_that_can_not_be_rendered_refuses_the_run() {
        let refused = asked(json!({"day": 7})).refused.unwrap();
        assert_eq!(refused.code, "Template");
        assert!(refused.message.starts_with("the key of concurrency can't be rendered"), "{}", refused.message);
        let long = asked(json!({"region": "x".repeat(513), "day": 7})).refused.unwrap();
        assert!(long.message.contains("513 bytes"), "{}", long.message);
    }
}
