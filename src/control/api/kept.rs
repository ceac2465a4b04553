//! What is given out again for a while.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// A value, and when it was made.
pub(super) struct Kept<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Kept<T> {
    /// The value, made anew if it is older than that. Who asks meanwhile waits for the same one.
    pub(super) async fn get<E>(
        &self,
        age: Duration,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut kept = self.0.lock().await;
        if let Some((made, value)) = &*kept
            && made.elapsed() < age
        {
            return Ok(value.clone());
        }
        let value = make.await?;
        *kept = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    /// It is not so any more; what is being made now is not kept either.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
