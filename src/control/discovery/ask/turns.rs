//! Turns of questions: so many are under way at a time, and whoever is silent keeps only its like waiting.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions that were begun a moment ago.
const PROMPT: usize = 64;

/// Questions without an answer for longer than [`MOMENT`].
const SILENT: usize = 32;

/// Questions that are under way at a time.
pub const MOST_QUESTIONS: usize = PROMPT + SILENT;

/// How long a question may keep others waiting that may be answered at once.
const MOMENT: Duration = Duration::from_secs(1);

/// Who may ask.
pub(super) struct Turns {
    prompt: Semaphore,
    silent: Semaphore,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { prompt: Semaphore::new(PROMPT), silent: Semaphore::new(SILENT) }
    }

    /// The answer to a question when its turn has come, if it comes within `patience` then. One that is still without an answer
    /// when others need its turn is given up, and asked again among those that are silent.
    pub(super) async fn take<F: Future>(&self, ask: impl Fn() -> F, patience: Duration) -> Option<F::Output> {
        let in_time = || async { timeout(patience, ask()).await };
        let mut answer = pin!(in_time());
        {
            let _turn = self.prompt.acquire().await;
            if let Ok(answer) = timeout(MOMENT, &mut answer).await {
                return answer.ok();
            }
        }
        if let Ok(_turn) = self.silent.try_acquire() {
            return answer.await.ok();
        }
        // It is not to go on meanwhile.
        answer.set(in_time());
        let _turn = self.silent.acquire().await;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    /// However many are silent: who is answered at once does not wait for them, nor does any of them for ever.
    #[tokio::test(start_paused = true)]
    async fn silent_ones_keep_nobody_waiting() {
        let turns = Turns::new();
        let patience = Duration::from_secs(12);
        let silent = || turns.take(|| sleep(Duration::from_hours(1)), patience);
        let dead: Vec<_> = (0..3 * PROMPT).map(|_| silent()).collect();
        let began = Instant::now();
        let good = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..100 {
                let asked = Instant::now();
                assert_eq!(turns.take(|| sleep(Duration::from_millis(10)), patience).await, Some(()));
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        };
        let (answers, slowest) = tokio::join!(futures_util::future::join_all(dead), good);
        assert!(answers.iter().all(Option::is_none));
        // All of them came before it, and each was given a moment.
        assert!(slowest <= 4 * MOMENT, "{slowest:?}");
        let rounds = u32::try_from((3 * PROMPT).div_ceil(SILENT)).unwrap();
        assert!(began.elapsed() <= rounds * (patience + MOMENT), "{:?}", began.elapsed());
    }
}
