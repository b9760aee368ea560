//! Follows what a call has begun until that has ended: each lease asks once, so that nothing waits here in between.

mod notes;
mod place;

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderName, LOCATION};
use reveille_shared::definition::{Follow, HttpCall};
use reveille_shared::template::Engine;
use reveille_shared::work_request::Stream;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::notes::{FEW, Next, Notes};
use self::place::Place;
use super::answer::Answer;
use super::operation::{Found, Said, Way, by_condition, by_convention, ended_at_once, percent_of};
use super::{CANCEL_TIMEOUT, Caller, Left, Run, RunFailure, RunResult, built, is_shown};
use crate::handlers::env::Variables;
use crate::handlers::template::context;

/// How long an answer may take, with that of the place of the result.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is waited for the end of what was canceled: less than a handler's grace.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);
/// How long a callee may take to say whether it has ended before that.
const CANCEL_LOOK: Duration = Duration::from_secs(2);
/// How often it is asked after meanwhile.
const CANCEL_PAUSE: Duration = Duration::from_millis(500);
const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
const AZURE_ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");

/// What follows a good answer to the call.
pub(super) fn begun(
    call: &HttpCall,
    follow: &Follow,
    run: &Run,
    variables: &Variables,
    answer: &Answer,
) -> Result<Left, RunFailure> {
    let header = |name: HeaderName| answer.header(name).map(str::to_owned);
    let own = follow.url.as_deref().map(|url| render_url(url, run, answer)).transpose()?.flatten();
    let monitor = own.or_else(|| header(OPERATION_LOCATION)).or_else(|| header(AZURE_ASYNC_OPERATION));
    let (url, way, result) = match (monitor, header(LOCATION)) {
        (Some(url), result) => {
            if follow.succeeded.is_none()
                && let Some(said) = ended_at_once(answer)
            {
                return Ok(Left::Ended(match said {
                    Said::Succeeded(Found::Here(output)) => Ok(output),
                    Said::Ended(failure) => Err(failure),
                    // A result that is elsewhere is found by the first question.
                    _ => Ok(answer.output()),
                }));
            }
            let result = result.filter(|result| *result != url);
            (url, Way::Monitor, result)
        }
        (None, Some(url)) => (url, Way::Location, None),
        (None, None) if answer.status == reqwest::StatusCode::ACCEPTED => {
            let told = "answered 202 Accepted and does not say where to ask after it: neither by Operation-Location, \
                        Azure-AsyncOperation nor Location; write `url` within `follow`";
            return Err(RunFailure::fatal(told).code("OperationUnknown"));
        }
        (None, None) => return Ok(Left::Ended(Ok(answer.output()))),
    };
    let place = Place::of(call, run, variables)?;
    place.resolve(&place.url, &url)?;
    if let Some(percent) = percent_of(&answer.body) {
        tell(run, Some(percent), None);
    }
    let notes = Notes::new(url, way, result);
    let wait = answer.retry_after(run.sink.now()).unwrap_or_default();
    let after = wait.clamp(follow.least.get(), follow.most.get());
    Ok(parked(run, after, &notes))
}

/// Asks once, as a later lease of the attempt.
pub(super) async fn go_on(
    caller: &Caller,
    call: &HttpCall,
    follow: &Follow,
    run: &Run,
    variables: &Variables,
    notes: Value,
) -> Result<Left, RunFailure> {
    let notes = Notes::deserialize(notes).map_err(|error| {
        RunFailure::fatal(format!("the notes of an earlier lease can't be read: {error}")).code("Handover")
    })?;
    let pursuit = Pursuit { caller, call, follow, run, variables };
    tokio::select! {
        biased;
        () = run.stop.cancelled() => {}
        left = pursuit.step(notes.clone()) => return Ok(left),
    }
    if run.is_canceled() {
        return Ok(Left::Ended(pursuit.cancel(&notes).await));
    }
    Ok(Left::Untouched)
}

/// One lease's part in following an operation.
#[derive(Clone, Copy)]
struct Pursuit<'a> {
    caller: &'a Caller,
    call: &'a HttpCall,
    follow: &'a Follow,
    run: &'a Run,
    variables: &'a Variables,
}

impl Pursuit<'_> {
    async fn step(&self, mut notes: Notes) -> Left {
        let said = self.ask(&notes).await;
        metrics::counter!("reveille_operation_polls_total", "said" => said.label()).increment(1);
        let trouble = match &said {
            Said::Running { percent, word, .. } => {
                tell(self.run, *percent, word.as_deref());
                None
            }
            Said::Failing(failure) | Said::Refused(failure) | Said::Unknown(failure) => Some(failure.message.clone()),
            Said::Succeeded(_) | Said::Ended(_) => None,
        };
        if let Some(trouble) = &trouble
            && !notes.is_in_trouble()
        {
            self.run.log(Stream::System, &format!("asked after what was begun: {trouble}")).await;
        }
        let after = match notes.next(said, self.follow) {
            Next::Ended(result) => return Left::Ended(result),
            Next::Again { after } => after,
        };
        if std::time::Instant::now() < self.run.deadline {
            return parked(self.run, after, &notes);
        }
        self.tell_to_stop(&notes).await;
        let trouble = trouble.map(|trouble| format!("; asked after it: {trouble}")).unwrap_or_default();
        let message = format!("what was begun had not ended by the job's time-out{trouble}");
        Left::Ended(Err(RunFailure::retry(message).code("Timeout")))
    }

    /// Tells the callee to stop, unless it has ended by then, and waits a little for what becomes of it.
    async fn cancel(&self, notes: &Notes) -> RunResult {
        let until = Instant::now() + CANCEL_PATIENCE;
        let ended = |said| match said {
            Said::Succeeded(Found::Here(output)) => Some(Ok(output)),
            Said::Ended(_) | Said::Unknown(_) => Some(Err(RunFailure::stopped())),
            _ => None,
        };
        if let Ok(said) = timeout(CANCEL_LOOK, self.ask(notes)).await
            && let Some(end) = ended(said)
        {
            return end;
        }
        if !self.tell_to_stop(notes).await {
            return Err(RunFailure::stopped());
        }
        while let Ok(said) = timeout_at(until, self.ask(notes)).await {
            if let Some(end) = ended(said) {
                return end;
            }
            sleep_until(until.min(Instant::now() + CANCEL_PAUSE)).await;
        }
        self.run.log(Stream::System, "what was begun has not ended yet; it is not asked after any more").await;
        Err(RunFailure::stopped())
    }

    /// Makes the cancel call, if the job has one. Answers whether it has.
    async fn tell_to_stop(&self, notes: &Notes) -> bool {
        if let Some(cancel) = &self.call.cancel {
            self.caller.cancel(cancel, self.run, self.variables).await;
        } else if self.follow.delete {
            let request = Place::of(self.call, self.run, self.variables).and_then(|place| {
                let at = place.resolve(&place.url, &notes.url)?;
                let headers = place.headers_for(&at);
                built(self.caller.client.request(Method::DELETE, at).headers(headers).timeout(CANCEL_TIMEOUT))
            });
            self.caller.tell_to_stop(request, is_shown(&self.call.url), self.run).await;
        } else {
            return false;
        }
        true
    }

    async fn ask(&self, notes: &Notes) -> Said {
        match timeout(ASK_TIMEOUT, self.question(notes)).await {
            Ok(Ok(said)) => said,
            Ok(Err(failure)) if failure.retryable => Said::Failing(failure),
            Ok(Err(failure)) => Said::Refused(failure),
            Err(_) => {
                Said::Failing(RunFailure::retry(format!("no answer within {ASK_TIMEOUT:?}")).code("HttpConnection"))
            }
        }
    }

    async fn question(&self, notes: &Notes) -> Result<Said, RunFailure> {
        let place = Place::of(self.call, self.run, self.variables)?;
        let at = place.resolve(&place.url, &notes.url)?;
        let answer = self.get(&place, at.clone()).await?;
        match self.judge(notes, &answer) {
            Said::Succeeded(Found::At { url, instead }) => {
                let answer = match place.resolve(&at, &url) {
                    Ok(url) => self.get(&place, url).await,
                    Err(failure) => Err(failure),
                };
                Ok(self.result(answer, instead, notes).await)
            }
            said => Ok(said),
        }
    }

    fn judge(&self, notes: &Notes, answer: &Answer) -> Said {
        let now = self.run.sink.now();
        if self.follow.succeeded.is_none() && self.follow.percent.is_none() {
            return by_convention(notes.way, notes.result.as_deref(), answer, now);
        }
        let mut context = context(self.run);
        let output = answer.output();
        context["status"] = output["status"].clone();
        context["body"] = output["body"].clone();
        let engine = Engine::new(&context);
        let said = if self.follow.succeeded.is_some() {
            by_condition(self.follow, &engine, answer, now)
        } else {
            by_convention(notes.way, notes.result.as_deref(), answer, now)
        };
        match (said, &self.follow.percent) {
            (Said::Running { word, wait, .. }, Some(figure)) => {
                Said::Running { percent: engine.number(figure).ok(), word, wait }
            }
            (said, _) => said,
        }
    }

    /// What the place of the result says. Where there is none, what has succeeded nevertheless has.
    async fn result(&self, answer: Result<Answer, RunFailure>, instead: Option<Value>, notes: &Notes) -> Said {
        let now = self.run.sink.now();
        let (failure, is_passing) = match answer {
            Ok(answer) if answer.status == reqwest::StatusCode::ACCEPTED => {
                return Said::Running { percent: None, word: None, wait: answer.retry_after(now) };
            }
            Ok(answer) if answer.status.is_success() => return Said::Succeeded(Found::Here(answer.output())),
            Ok(answer) => (answer.failure(now), answer.is_passing()),
            Err(failure) => {
                let is_passing = failure.retryable;
                (failure, is_passing)
            }
        };
        let failure = RunFailure { message: format!("the place of the result: {}", failure.message), ..failure };
        match instead {
            Some(output) if !is_passing || notes.failed >= FEW => {
                self.run.log(Stream::System, &format!("{}; the last answer is kept instead", failure.message)).await;
                Said::Succeeded(Found::Here(output))
            }
            _ if is_passing => Said::Failing(failure),
            _ => Said::Refused(failure),
        }
    }

    async fn get(&self, place: &Place, at: reqwest::Url) -> Result<Answer, RunFailure> {
        let headers = place.headers_for(&at);
        let request = built(self.caller.client.request(Method::GET, at).headers(headers))?;
        Answer::read(self.caller.send(request, is_shown(&self.call.url)).await?).await
    }
}

/// Where to ask, by the job's own template; empty where it says that there is nothing to ask after.
fn render_url(template: &str, run: &Run, answer: &Answer) -> Result<Option<String>, RunFailure> {
    let mut context = context(run);
    let output = answer.output();
    context["status"] = output["status"].clone();
    context["body"] = output["body"].clone();
    let text = |(name, value): (&HeaderName, &reqwest::header::HeaderValue)| {
        Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?)))
    };
    context["headers"] = Value::Object(answer.headers.iter().filter_map(text).collect::<Map<_, _>>());
    let url = Engine::new(&context).render(template).map_err(|error| {
        RunFailure::fatal(format!("follow.url can't be rendered: {}", error.reason)).code("Template")
    })?;
    Ok(Some(url.trim().to_owned()).filter(|url| !url.is_empty()))
}

fn tell(run: &Run, percent: Option<f64>, word: Option<&str>) {
    if percent.is_some() || word.is_some() {
        #[allow(clippy::cast_possible_truncation, reason = "a percentage")]
        run.sink.progress(percent.unwrap_or_default() as f32, word);
    }
}

/// Leaves the rest to the next lease, which comes no later than the end of the attempt's time.
fn parked(run: &Run, after: Duration, notes: &Notes) -> Left {
    let left = run.deadline.saturating_duration_since(std::time::Instant::now());
    Left::Parked { after: after.min(left), notes: serde_json::to_value(notes).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
