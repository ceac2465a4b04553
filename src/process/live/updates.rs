//! Access lines of connections that go on: `events = ["update"]`.

use std::time::Duration;

use super::Live;
use crate::config::{Event, TcpInfo};
use crate::control::Cursor;
use crate::control::select::Selection;
use crate::logging::Recorder;
use crate::relay::Dir;
use crate::session::{Doing, Record};
use crate::worker::Ask;

/// How soon to look again whether the log has room.
const ROOM: Duration = Duration::from_millis(20);

impl Live {
    /// Tells of every relay that is as old as that, again and again.
    pub(in crate::process) async fn tell_updates(&self, mut recorder: Recorder, every: Duration) {
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        loop {
            tokio::time::sleep(every).await;
            let asks = self.published.current().metrics.tcp_info != TcpInfo::Off;
            let asks = if asks { Ask::Paths } else { Ask::Nothing };
            let mut next = Some(Cursor::default());
            while let Some(at) = next {
                let (found, following) = self.piece(&Selection::default(), at, asks).await;
                while recorder.room() < found.len() {
                    tokio::time::sleep(ROOM).await;
                }
                for found in found {
                    let row = found.row;
                    if row.doing == Doing::Relaying && row.now.0.saturating_sub(row.began.0) >= every_ms {
                        recorder.push(Record {
                            event: Event::Update,
                            id: row.id,
                            worker: found.worker,
                            listener: row.listener,
                            server: row.server,
                            client: row.client,
                            heard: row.heard,
                            probes: false,
                            tries: row.tries,
                            redispatched: row.redispatched,
                            queue_ms: row.queue_ms,
                            connect_ms: row.connect_ms,
                            began: row.began,
                            ended: row.now,
                            bytes_in: row.moved[Dir::Up.index()],
                            bytes_out: row.moved[Dir::Down.index()],
                            cause: None,
                            paths: row.paths,
                        });
                    }
                }
                recorder.flush();
                next = following;
            }
        }
    }
}
