//! Files that are read for a connection. Whoever reads them may hang with their file system, and nothing else is to wait for that.

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

/// One that reads, by a thread of its own.
pub(super) struct Reading<T>(Mutex<Option<JoinHandle<Result<T, String>>>>);

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Send + 'static> Reading<T> {
    /// What `read` says. Where one is under way that nobody has waited for to its end, it is what that one says: there is a
    /// thread for each try otherwise, and all of them hang.
    pub(super) async fn take(
        &self,
        read: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let mut under_way = self.0.lock().await;
        let said = under_way.get_or_insert_with(|| spawn_blocking(read)).await;
        *under_way = None;
        said.map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_that_hangs_is_waited_for_and_not_begun_again() {
        let files = Reading::default();
        let (go, gone) = channel::<&str>();
        let hangs = files.take(move || gone.recv().map_err(|error| error.to_string()));
        assert!(timeout(Duration::from_millis(10), hangs).await.is_err());
        for _ in 0..3 {
            let other = files.take(|| Err("another one was begun".to_owned()));
            assert!(timeout(Duration::from_millis(10), other).await.is_err());
        }
        go.send("the first").unwrap();
        assert_eq!(files.take(|| Ok("another one")).await, Ok("the first"));
        assert_eq!(files.take(|| Ok("the next")).await, Ok("the next"));
    }
}
