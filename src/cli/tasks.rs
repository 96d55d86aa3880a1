//! The tasks that run beside the server for the lifetime of the process. A task that ends early ends the process.

use std::future::pending;

use anyhow::{Error, anyhow};
use futures_util::future::select_all;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Tasks that run until they are cancelled.
pub(super) struct Tasks {
    end: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

impl Tasks {
    /// Returns an empty set of tasks.
    pub(super) fn new() -> Self {
        Self { end: CancellationToken::new(), tasks: Vec::new() }
    }

    /// Returns a token that is cancelled when the tasks have to end.
    pub(super) fn ending(&self) -> CancellationToken {
        self.end.child_token()
    }

    /// Starts a task.
    pub(super) fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.add(name, tokio::spawn(work));
    }

    /// Adds a running task.
    pub(super) fn add(&mut self, name: &'static str, task: JoinHandle<()>) {
        self.tasks.push((name, task));
    }

    /// Waits until a task ends without being cancelled, then cancels the others. A process that does half of its work
    /// looks as if it did all of it, so it ends, and the kubelet restarts it.
    pub(super) async fn broken(&mut self) -> Error {
        if self.tasks.is_empty() {
            return pending().await;
        }
        let (ended, position, _) = select_all(self.tasks.iter_mut().map(|(_, task)| task)).await;
        let (name, _) = self.tasks.swap_remove(position);
        self.end.cancel();
        let error = fault(name, ended);
        tracing::error!(%error, "a task ended early; exiting so that the kubelet restarts the process");
        error
    }

    /// Cancels all tasks and waits until they have ended.
    pub(super) async fn end(self) {
        self.end.cancel();
        for (name, task) in self.tasks {
            if let ended @ Err(_) = task.await {
                tracing::error!(error = %fault(name, ended));
            }
        }
    }
}

fn fault(name: &str, ended: Result<(), JoinError>) -> Error {
    let how = ended.map_or_else(|error| error.to_string(), |()| "it ended early".to_owned());
    anyhow!("task `{name}` failed: {how}; this is a bug in Portcullis")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Spawns a task that ends when it is cancelled, and returns a receiver for its end.
    fn orderly(tasks: &mut Tasks) -> oneshot::Receiver<()> {
        let (sender, ended) = oneshot::channel();
        let end = tasks.ending();
        tasks.spawn("order", async move {
            end.cancelled().await;
            sender.send(()).unwrap();
        });
        ended
    }

    #[tokio::test]
    async fn one_that_ends_too_early_ends_the_others() {
        for (how, work) in [("it ended early", Ok(())), ("no such thing", Err("no such thing"))] {
            let mut tasks = Tasks::new();
            let mut other = orderly(&mut tasks);
            tasks.spawn("haste", async move { work.unwrap() });
            let error = tasks.broken().await.to_string();
            assert!(error.starts_with("task `haste` failed: ") && error.contains(how), "{error}");
            (&mut other).await.unwrap();
            tasks.end().await;
        }
    }

    #[tokio::test]
    async fn who_was_told_to_end_is_not_broken() {
        let mut tasks = Tasks::new();
        let mut both = [orderly(&mut tasks), orderly(&mut tasks)];
        assert!(futures_util::poll!(std::pin::pin!(tasks.broken())).is_pending());
        tasks.end().await;
        assert!(both.iter_mut().all(|ended| ended.try_recv().is_ok()));
    }
}
