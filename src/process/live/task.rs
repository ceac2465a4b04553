//! Tasks that go on beside others for as long as somebody keeps them.

use tokio::task::AbortHandle;

/// A task. It ends, wherever it waits, when this is dropped.
pub(super) struct Task(AbortHandle);

impl Task {
    /// Begins it.
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_that_nobody_keeps_ends() {
        let (tell, told) = oneshot::channel::<()>();
        let task = Task::new(async move {
            let _kept = tell;
            pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(task);
        assert!(told.await.is_err());
    }
}
