//! Rust functions that a worker's own program registers by name.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{Run, RunFailure, RunResult};

type Function = Arc<dyn Fn(Run) -> Pin<Box<dyn Future<Output = RunResult> + Send>> + Send + Sync>;

/// The functions that a worker can run, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Functions(Arc<HashMap<String, Function>>);

/// Collects functions.
#[derive(Default)]
pub struct FunctionsBuilder(HashMap<String, Function>, Option<String>);

/// Two functions were registered under one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two functions are registered as {0:?}")]
pub struct DuplicateFunction(pub String);

impl Functions {
    /// Starts with none.
    #[must_use]
    pub fn builder() -> FunctionsBuilder {
        FunctionsBuilder::default()
    }

    /// The registered names, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) async fn call(&self, name: &str, run: Run) -> RunResult {
        match self.0.get(name) {
            Some(function) => function(run).await,
            // Worth a retry: another worker of the queue, perhaps of a newer build, may have it.
            None => {
                let known = format!("this worker has no function {name:?}");
                Err(RunFailure::retry(known).code("UnknownFunction"))
            }
        }
    }
}

impl FunctionsBuilder {
    /// Makes `function` known as `name`, for jobs that say `function: name`.
    ///
    /// It runs on the async runtime: what computes for long or blocks belongs into
    /// `tokio::task::spawn_blocking`.
    #[must_use]
    pub fn register<F, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: Fn(Run) -> R + Send + Sync + 'static,
        R: Future<Output = RunResult> + Send + 'static,
    {
        let name = name.into();
        let function: Function = Arc::new(move |run| Box::pin(function(run)));
        if self.0.insert(name.clone(), function).is_some() {
            self.1.get_or_insert(name);
        }
        self
    }

    /// The finished registry.
    ///
    /// # Errors
    /// [`DuplicateFunction`] names the first name that was registered twice.
    pub fn build(self) -> Result<Functions, DuplicateFunction> {
        match self.1 {
            Some(name) => Err(DuplicateFunction(name)),
            None => Ok(Functions(Arc::new(self.0))),
        }
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for FunctionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::tests::run_with;

    #[tokio::test]
    async fn calls_by_name_and_says_what_it_lacks() {
        let functions = Functions::builder()
            .register("double", |run: Run| async move { Ok(json!(run.input::<i64>()? * 2)) })
            .register("read", |_| async { Ok(json!(std::fs::read_to_string("/nonexistent/file")?)) })
            .build()
            .unwrap();
        assert_eq!(functions.call("double", run_with(json!(21)).0).await, Ok(json!(42)));
        let invalid = functions.call("double", run_with(json!("x")).0).await.unwrap_err();
        assert_eq!((invalid.code.as_str(), invalid.retryable), ("InvalidInput", false));
        let read = functions.call("read", run_with(json!(null)).0).await.unwrap_err();
        assert!(read.retryable && read.message.contains("No such file"), "{read:?}");
        let unknown = functions.call("triple", run_with(json!(1)).0).await.unwrap_err();
        assert_eq!((unknown.code.as_str(), unknown.retryable), ("UnknownFunction", true));
    }

    #[test]
    fn refuses_two_of_one_name() {
        let twice =
            Functions::builder().register("a", |_| async { Ok(json!(1)) }).register("a", |_| async { Ok(json!(2)) });
        assert_eq!(twice.build().unwrap_err(), DuplicateFunction("a".into()));
    }
}
