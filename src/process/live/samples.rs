//! What the system tells of the paths of connections that go on, counted now and then: `metrics.tcp_info = "sample"`.

use tokio::sync::oneshot;

use super::Live;
use crate::config::TcpInfo;
use crate::worker::{Ask, Command};

impl Live {
    /// Has workers count what the system tells of every relay, again and again, as long as the configuration wants it.
    pub(in crate::process) async fn sample_paths(&self) {
        loop {
            tokio::time::sleep(self.published.current().metrics.tcp_info_sample_every).await;
            if self.published.current().metrics.tcp_info != TcpInfo::Sample {
                continue;
            }
            let hands = self.state.lock().await.hands.clone();
            for (worker, hand) in (0..).zip(&hands) {
                let mut next = Some(0);
                while let Some(from) = next {
                    let (reply, answer) = oneshot::channel();
                    self.tell(hand, worker, Command::List { from, ask: Ask::Sample, reply });
                    // A worker that has ended has no connection.
                    next = answer.await.unwrap_or_default().next;
                }
            }
        }
    }
}
