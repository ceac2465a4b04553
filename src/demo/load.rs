//! A load for the demo: blocking clients, one connection for each request, and the table of what they met.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;

use super::now;

/// Clients at a time; each waits for its answer before it asks again.
pub(super) const CLIENTS: usize = 8;

/// How long one step of a request may take: connecting, sending, or one read of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait after a failed request, so that a proxy that refuses all is not asked without end.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest answer that is read, in bytes.
const MOST_ANSWER: u64 = 4096;

/// What is asked of whom, and for how long.
pub(super) struct Load {
    /// The proxy.
    pub(super) to: SocketAddr,
    /// The back ends; an answer that is none of them is an error.
    pub(super) names: Vec<String>,
    pub(super) time: Duration,
}

/// What the clients met.
#[derive(Debug)]
pub(super) struct Summary {
    /// Requests that failed.
    pub(super) errors: u64,
    first_error: Option<String>,
    /// Answers, by back end.
    answers: Vec<(String, u64)>,
    /// How long each answer took from before the connection to its end, in microseconds.
    latency: Histogram<u64>,
    /// How long all of it took.
    time: Duration,
}

impl Load {
    /// Asks until the time is over, or until `stopping`; what fails once it is set is not counted.
    pub(super) fn drive(&self, stopping: &AtomicBool) -> anyhow::Result<Summary> {
        let began = now();
        let parts = thread::scope(|scope| {
            let start = |_| thread::Builder::new().spawn_scoped(scope, || self.client(stopping));
            let clients = (0..CLIENTS).map(start).collect::<Result<Vec<_>, _>>()?;
            clients
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<anyhow::Result<Vec<_>>>()
        })?;
        let mut summary = self.nothing_yet()?;
        for part in parts {
            summary.add(part)?;
        }
        summary.time = began.elapsed();
        Ok(summary)
    }

    /// The whole life of one client.
    fn client(&self, stopping: &AtomicBool) -> anyhow::Result<Summary> {
        let mut summary = self.nothing_yet()?;
        let end = now() + self.time;
        while now() < end && !stopping.load(Ordering::Relaxed) {
            let began = now();
            match self.ask() {
                Ok(index) => {
                    summary.answers[index].1 += 1;
                    summary
                        .latency
                        .saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
                Err(_) if stopping.load(Ordering::Relaxed) => {}
                Err(error) => {
                    summary.errors += 1;
                    summary.first_error.get_or_insert_with(|| format!("{error:#}"));
                    thread::sleep(PAUSE);
                }
            }
        }
        Ok(summary)
    }

    /// One request on a connection of its own: which back end answered.
    fn ask(&self) -> anyhow::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.to);
        stream.write_all(request.as_bytes()).context("cannot send the request")?;
        let mut answer = Vec::new();
        stream.take(MOST_ANSWER).read_to_end(&mut answer).context("no whole answer")?;
        match self.who(&answer) {
            Some(index) => Ok(index),
            None => {
                bail!("not an answer of a back end: \"{}\"", answer[..answer.len().min(80)].escape_ascii())
            }
        }
    }

    /// The back end whose answer this is.
    fn who(&self, answer: &[u8]) -> Option<usize> {
        let answer = str::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let name = body.strip_suffix('\n').filter(|_| head.starts_with("HTTP/1.1 200 "))?;
        self.names.iter().position(|known| known == name)
    }

    fn nothing_yet(&self) -> anyhow::Result<Summary> {
        Ok(Summary {
            errors: 0,
            first_error: None,
            answers: self.names.iter().map(|name| (name.clone(), 0)).collect(),
            // Up to a minute, three digits: no step of a request may take longer.
            latency: Histogram::new_with_max(60_000_000, 3)?,
            time: Duration::ZERO,
        })
    }
}

impl Summary {
    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        for (mine, theirs) in self.answers.iter_mut().zip(other.answers) {
            mine.1 += theirs.1;
        }
        self.latency.add(other.latency)?;
        Ok(())
    }
}

impl fmt::Display for Summary {
    /// The table that the user sees, with a line end after each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered: u64 = self.answers.iter().map(|(_, count)| count).sum();
        let requests = answered + self.errors;
        let ms = |microseconds: u64| microseconds as f64 / 1000.0;
        writeln!(f, "{:<22}{:>12}", "requests", requests)?;
        writeln!(f, "{:<22}{:>12}", "errors", self.errors)?;
        writeln!(f, "{:<22}{:>12.0}", "requests/s", requests as f64 / self.time.as_secs_f64().max(0.001))?;
        for (name, quantile) in [("latency p50", 0.5), ("latency p99", 0.99), ("latency max", 1.0)] {
            let latency = ms(self.latency.value_at_quantile(quantile));
            writeln!(f, "{name:<22}{latency:>12.2} ms")?;
        }
        for (name, count) in &self.answers {
            let share = *count as f64 * 100.0 / answered.max(1) as f64;
            writeln!(f, "{:<22}{count:>12} {share:>6.1} %", format!("answered by {name}"))?;
        }
        match &self.first_error {
            Some(error) => writeln!(f, "the first error: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        let names = vec!["alpha".to_owned(), "beta".to_owned()];
        Load { to: "127.0.0.1:1".parse().unwrap(), names, time: Duration::from_secs(1) }
    }

    #[test]
    fn only_a_whole_answer_of_a_known_back_end_counts() {
        let load = load();
        assert_eq!(load.who(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbeta\n"), Some(1));
        for wrong in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbet",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ngamma\n",
            b"HTTP/1.1 400 Bad Request\r\n\r\nbeta\n",
            b"\xff\xfe\r\n\r\nbeta\n",
        ] {
            assert_eq!(load.who(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn the_table_adds_up_what_the_clients_met() {
        let load = load();
        let mut all = load.nothing_yet().unwrap();
        for (index, microseconds) in [(0, 1_000), (1, 3_000), (0, 2_000)] {
            let mut part = load.nothing_yet().unwrap();
            part.answers[index].1 = 1;
            part.latency.record(microseconds).unwrap();
            all.add(part).unwrap();
        }
        let mut failed = load.nothing_yet().unwrap();
        failed.errors = 1;
        failed.first_error = Some("refused".to_owned());
        all.add(failed).unwrap();
        all.time = Duration::from_secs(2);
        let table = all.to_string();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                vec!["requests", "4"],
                vec!["errors", "1"],
                vec!["requests/s", "2"],
                vec!["latency", "p50", "2.00", "ms"],
                vec!["latency", "p99", "3.00", "ms"],
                vec!["latency", "max", "3.00", "ms"],
                vec!["answered", "by", "alpha", "2", "66.7", "%"],
                vec!["answered", "by", "beta", "1", "33.3", "%"],
                vec!["the", "first", "error:", "refused"],
            ]
        );
    }
}
