//! Whether a lost attempt took effect: asked of an endpoint or a program before anything is run again.

use reveille_shared::definition::{CommandCall, Verify, VerifyCall, VerifyHttp};
use reveille_shared::template::Engine;
use serde_json::Value;

use super::template::context;
use super::{Handlers, Run, RunFailure, command};

/// A program's exit codes for the four answers; any other is not known.
const TOOK_EFFECT: i64 = 0;
const DID_NOT: i64 = 1;
const STILL_RUNNING: i64 = 2;

/// What is known of a lost attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// It took effect; this was found.
    TookEffect(Value),
    /// It did not, and may be run again.
    DidNot,
    /// It still runs.
    StillRunning,
    /// Nobody knows; the text says why.
    Unknown(String),
    /// This worker may not ask.
    Refused(RunFailure),
}

impl Handlers {
    /// Asks. A stop ends it, as does the time-out.
    pub(crate) async fn verify(&self, verify: &Verify, run: &Run) -> Answer {
        let timeout = verify.timeout.get();
        let asked = async {
            match &verify.how {
                VerifyCall::Http(call) => self.ask_endpoint(call, run).await,
                VerifyCall::Command(call) => self.ask_program(call, run).await,
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) if failure.code == "Refused" => Answer::Refused(failure),
            Ok(Err(failure)) => Answer::Unknown(failure.message),
            Err(_) => Answer::Unknown(format!("no answer within {timeout:?}")),
        }
    }

    async fn ask_endpoint(&self, call: &VerifyHttp, run: &Run) -> Result<Answer, RunFailure> {
        let found = self.http.get(&call.url, &call.headers, run, &self.variables).await?;
        let mut context = context(run);
        let status = found["status"].clone();
        context["status"] = status.clone();
        context["body"] = found["body"].clone();
        let engine = Engine::new(&context);
        let answers = [
            (Some(&call.succeeded), Answer::TookEffect(found)),
            (call.failed.as_ref(), Answer::DidNot),
            (call.running.as_ref(), Answer::StillRunning),
        ];
        let mut doubts = Vec::new();
        for (condition, answer) in answers {
            match condition.map(|condition| engine.holds(condition)) {
                Some(Ok(true)) => return Ok(answer),
                Some(Err(error)) => doubts.push(error.reason),
                Some(Ok(false)) | None => {}
            }
        }
        let doubts = if doubts.is_empty() { String::new() } else { format!(" ({})", doubts.join("; ")) };
        Ok(Answer::Unknown(format!("no condition holds for the answer with status {status}{doubts}")))
    }

    async fn ask_program(&self, call: &CommandCall, run: &Run) -> Result<Answer, RunFailure> {
        // All codes are answers.
        let call = CommandCall { success: (0..=255).collect(), ..call.clone() };
        let output = command::run(&call, run, &self.variables, &self.guards).await?;
        Ok(match output["exitCode"].as_i64() {
            Some(TOOK_EFFECT) => Answer::TookEffect(output),
            Some(DID_NOT) => Answer::DidNot,
            Some(STILL_RUNNING) => Answer::StillRunning,
            _ => Answer::Unknown(format!("the program that was asked exited with code {}", output["exitCode"])),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::Router;
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::routing::get;
    use reveille_shared::duration::HumanDuration;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::handlers::Functions;
    use crate::handlers::command::Guards;
    use crate::handlers::command::tests::guards;
    use crate::handlers::env::Variables;
    use crate::policy::tests::policy;
    use crate::report::tests::run_with;

    fn handlers() -> Handlers {
        let variables = Variables::of(&[("PATH", &std::env::var("PATH").unwrap()), ("TOKEN", "s3cret")]);
        Handlers::new(Functions::default(), variables, guards()).unwrap()
    }

    async fn answer(how: VerifyCall, timeout: HumanDuration) -> Answer {
        let (run, _notes) = run_with(json!({"day": 7}));
        handlers().verify(&Verify { how, timeout }, &run).await
    }

    /// Answers `{"state": STATE}` under `/state/STATE`, with 404 for `gone`; `/slow` never does.
    async fn server() -> (String, JoinSet<()>) {
        let state = |Path(state): Path<String>| async move {
            let code = if state == "gone" { StatusCode::NOT_FOUND } else { StatusCode::OK };
            (code, axum::Json(json!({ "state": state })))
        };
        let router = Router::new()
            .route("/state/{state}", get(state))
            .route("/slow", get(std::future::pending::<()>))
            .route("/garbage", get(|| async { "not {json" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (base, tasks)
    }

    fn question(url: String) -> VerifyCall {
        VerifyCall::Http(VerifyHttp {
            url,
            headers: BTreeMap::from([("authorization".into(), "Bearer ${env:TOKEN}".into())]),
            succeeded: "status == 200 and body.state == 'done' and input.day == 7".into(),
            failed: Some("status == 404".into()),
            running: Some("body.state == 'running'".into()),
        })
    }

    #[tokio::test]
    async fn an_endpoint_gives_one_of_four_answers() {
        let (base, _server) = server().await;
        let second = HumanDuration::from_secs(5);
        let asked = async |path: &str| answer(question(format!("{base}/{path}")), second).await;
        let found = json!({"status": 200, "body": {"state": "done"}});
        assert_eq!(asked("state/done").await, Answer::TookEffect(found));
        assert_eq!(asked("state/gone").await, Answer::DidNot);
        assert_eq!(asked("state/running").await, Answer::StillRunning);
        let Answer::Unknown(why) = asked("state/odd").await else { panic!() };
        assert_eq!(why, "no condition holds for the answer with status 200");
        let Answer::Unknown(why) = asked("garbage").await else { panic!() };
        assert!(why.contains("status 200 (") && why.contains("`body.state` is undefined"), "{why}");
        let slow = answer(question(format!("{base}/slow")), HumanDuration::from_millis(50)).await;
        assert_eq!(slow, Answer::Unknown("no answer within 50ms".into()));
        let Answer::Unknown(why) = answer(question("http://127.0.0.1:1/".into()), second).await else { panic!() };
        assert!(why.starts_with("no answer: "), "{why}");
    }

    #[tokio::test]
    async fn who_may_not_be_asked_is_not_asked_again() {
        let guards = Guards { policy: policy("version: 1\nhosts: []\ncommands: []\n"), ..guards() };
        let handlers = Handlers::new(Functions::default(), Variables::of(&[("TOKEN", "s3cret")]), guards).unwrap();
        let (run, _notes) = run_with(json!({"day": 7}));
        let argv = vec!["/bin/true".to_owned()];
        let call = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
        for how in [question("http://127.0.0.1:1/".into()), VerifyCall::Command(call)] {
            let verify = Verify { how, timeout: HumanDuration::from_secs(5) };
            let Answer::Refused(failure) = handlers.verify(&verify, &run).await else { panic!("it was asked") };
            assert_eq!((failure.code.as_str(), failure.retryable), ("Refused", false), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_programs_exit_code_is_its_answer() {
        let ask = async |script: &str| {
            let argv = ["sh", "-c", script, "{{ input.day }}"].map(str::to_owned).to_vec();
            let call = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
            answer(VerifyCall::Command(call), HumanDuration::from_secs(10)).await
        };
        assert_eq!(ask("exit 0").await, Answer::TookEffect(json!({"exitCode": 0})));
        assert_eq!(ask("exit 1").await, Answer::DidNot);
        assert_eq!(ask("exit 2").await, Answer::StillRunning);
        let Answer::Unknown(why) = ask("exit $0").await else { panic!() };
        assert!(why.contains("code 7"), "{why}");
        let Answer::Unknown(why) = ask("kill -9 $$").await else { panic!() };
        assert!(why.contains("signal 9"), "{why}");
    }
}
