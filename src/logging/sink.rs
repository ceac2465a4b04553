//! Where lines leave the process. Only the writer's thread comes here, so it may wait for a slow output.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::Level;

use super::datagrams::{Datagrams, Dialect, JOURNAL_SOCKET};
use crate::config::LogOutput;
use crate::sys::{Clock, output};
use crate::tick::Tick;

/// Bytes after which a batch is written even before its end.
const BATCH: usize = 64 * 1024;

/// The least time between two complaints about the same output.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// One output, with what it has to say when it fails.
#[derive(Debug)]
pub(super) struct Sink {
    output: LogOutput,
    target: Target,
    /// Lines that have left, of all outputs together.
    written: Arc<AtomicU64>,
    complaints: Complaints,
}

#[derive(Debug)]
pub(super) enum Target {
    /// A descriptor that takes bytes.
    Stream(Stream),
    /// A socket that takes one line at a time.
    Datagrams(Datagrams),
}

impl Target {
    fn open(output: &LogOutput) -> io::Result<Self> {
        Ok(match output {
            LogOutput::Stdout => Self::Stream(Stream::new(output::own_stdout()?)),
            LogOutput::Stderr => Self::Stream(Stream::new(output::own_stderr()?)),
            LogOutput::File(path) => Self::Stream(Stream::new(output::open_to_append(path)?)),
            LogOutput::Journald => {
                Self::Datagrams(Datagrams::open(JOURNAL_SOCKET.as_ref(), Dialect::Journald)?)
            }
            LogOutput::Syslog(path) => Self::Datagrams(Datagrams::open(path, Dialect::Syslog)?),
        })
    }
}

impl Sink {
    /// Opens `output`; complaints about it go to the standard error.
    pub(super) fn open(output: &LogOutput, clock: Clock, written: Arc<AtomicU64>) -> io::Result<Self> {
        let target = Target::open(output)?;
        let complaints: Box<dyn Write + Send> = match output {
            LogOutput::Stderr => Box::new(io::sink()),
            _ => Box::new(io::stderr()),
        };
        Ok(Self::new(output.clone(), target, complaints, clock, written))
    }

    fn new(
        output: LogOutput,
        target: Target,
        complaints: Box<dyn Write + Send>,
        clock: Clock,
        written: Arc<AtomicU64>,
    ) -> Self {
        let name = output.to_string();
        let complaints = Complaints { name, to: complaints, clock, lost: 0, next: Tick(0) };
        Self { output, target, written, complaints }
    }

    /// Writes what is still here, and opens the output anew: a file by its name, which may be another file by now.
    /// If it cannot be, what is open stays in use, and the error, which names `key`, says how to mend that.
    pub(super) fn reopen(&mut self, key: &str) -> Result<(), String> {
        self.flush();
        let help = match self.output {
            // They have no name to open them by.
            LogOutput::Stdout | LogOutput::Stderr => return Ok(()),
            LogOutput::File(_) => {
                "lines go on to where they went; see that its folder exists and that this process may write there, \
                 then send SIGUSR1 again"
            }
            LogOutput::Journald | LogOutput::Syslog(_) => "its lines are lost until somebody listens there",
        };
        let open = Target::open(&self.output);
        self.target = open
            .map_err(|cause| format!("{key} = \"{}\": cannot open it anew: {cause}; {help}", self.output))?;
        Ok(())
    }

    /// Says something where complaints about this output go.
    pub(super) fn complain(&mut self, text: &str) {
        self.complaints.say(text);
    }

    /// Takes one line, which `write` appends without its end. It may wait for the output.
    pub(super) fn line(&mut self, level: Level, write: impl FnOnce(&mut Vec<u8>)) {
        match &mut self.target {
            Target::Stream(stream) => {
                stream.line(write);
                if stream.batch.len() >= BATCH {
                    self.flush();
                }
            }
            Target::Datagrams(datagrams) => match datagrams.send(level, write) {
                Ok(()) => {
                    self.written.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.complaints.about(1, &error),
            },
        }
    }

    /// Writes what is still here. It may wait for the output.
    pub(super) fn flush(&mut self) {
        if let Target::Stream(stream) = &mut self.target
            && let Err((lost, error)) = stream.write_batch(&self.written)
        {
            self.complaints.about(lost, &error);
        }
    }
}

/// Lines on their way to a descriptor, many in one write.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    batch: Vec<u8>,
    /// Where in `batch` each line ends.
    ends: Vec<usize>,
    /// The last write stopped in the middle of a line.
    is_torn: bool,
}

impl Stream {
    pub(super) fn new(file: File) -> Self {
        Self { file, batch: Vec::new(), ends: Vec::new(), is_torn: false }
    }

    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_torn && self.batch.is_empty() {
            self.batch.push(b'\n');
        }
        write(&mut self.batch);
        self.batch.push(b'\n');
        self.ends.push(self.batch.len());
    }

    /// Writes the batch and counts its lines as they leave. What cannot be written is given up: the error
    /// says how many lines that are.
    fn write_batch(&mut self, written: &AtomicU64) -> Result<(), (u64, io::Error)> {
        let mut sent = 0;
        let mut lines = 0;
        let mut failure = None;
        while sent < self.batch.len() {
            match write_some(&mut self.file, &self.batch[sent..]) {
                Ok(count) => sent += count,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            let whole = self.ends.partition_point(|&end| end <= sent);
            written.fetch_add((whole - lines) as u64, Ordering::Relaxed);
            lines = whole;
        }
        if sent > 0 {
            self.is_torn = self.ends[..lines].last() != Some(&sent);
        }
        let lost = (self.ends.len() - lines) as u64;
        self.batch.clear();
        self.ends.clear();
        failure.map_or(Ok(()), |error| Err((lost, error)))
    }
}

/// Writes at least one byte of `bytes`, which are not empty, and waits for room if need be: a descriptor
/// that we share with others may be in non-blocking mode.
fn write_some(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => output::wait_for_room(file)?,
            Err(error) => return Err(error),
        }
    }
}

/// What an output that fails has to say, at most once a second.
struct Complaints {
    name: String,
    to: Box<dyn Write + Send>,
    clock: Clock,
    lost: u64,
    next: Tick,
}

impl Complaints {
    fn about(&mut self, lost: u64, error: &io::Error) {
        self.lost += lost;
        let now = self.clock.now();
        if now < self.next {
            return;
        }
        self.next = now.after(COMPLAINT_INTERVAL);
        let text = format!("cannot write to {}: {error}; lines lost so far: {}", self.name, self.lost);
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        // One write, so that the line stays whole among what others say on the standard error. When even
        // this fails, nobody is left to be told.
        let _ = self.to.write_all(format!("tidegate: {text}\n").as_bytes());
    }
}

impl std::fmt::Debug for Complaints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Complaints")
            .field("name", &self.name)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read as _;
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// A sink on `file`, its count of written lines, and where its complaints arrive.
    fn sink(file: File) -> (Sink, Arc<AtomicU64>, UnixStream) {
        let (to, complaints) = UnixStream::pair().unwrap();
        complaints.set_nonblocking(true).unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let (output, target) = (LogOutput::File("out".into()), Target::Stream(Stream::new(file)));
        let sink = Sink::new(output, target, Box::new(to), Clock::start(), Arc::clone(&written));
        (sink, written, complaints)
    }

    fn push(sink: &mut Sink, line: &str) {
        sink.line(Level::Info, |out| out.extend_from_slice(line.as_bytes()));
    }

    fn heard(mut complaints: &UnixStream) -> String {
        let mut bytes = [0; 4096];
        let size = complaints.read(&mut bytes).unwrap_or(0);
        String::from_utf8(bytes[..size].to_vec()).unwrap()
    }

    fn as_file(socket: UnixStream) -> File {
        OwnedFd::from(socket).into()
    }

    #[test]
    fn a_full_disk_is_complained_of_once_a_second_and_survived() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let (mut sink, written, complaints) = sink(full);
        for _ in 0..3 {
            push(&mut sink, "one");
            push(&mut sink, "two");
            sink.flush();
        }
        let head = "tidegate: cannot write to out: No space left on device (os error 28); ";
        assert_eq!(heard(&complaints), format!("{head}lines lost so far: 2\n"));
        // A tick is a millisecond, and a deadline is never early.
        thread::sleep(COMPLAINT_INTERVAL + Duration::from_millis(5));
        push(&mut sink, "three");
        sink.flush();
        assert_eq!(heard(&complaints), format!("{head}lines lost so far: 7\n"));
        assert_eq!(written.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_went_away_is_complained_of() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut sink, written, complaints) = sink(as_file(ours));
        push(&mut sink, "read");
        sink.flush();
        drop(theirs);
        push(&mut sink, "unread");
        sink.flush();
        assert_eq!(written.load(Ordering::Relaxed), 1);
        assert!(heard(&complaints).contains("Broken pipe (os error 32); lines lost so far: 1\n"));
    }

    #[test]
    fn a_non_blocking_output_gets_every_byte() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut sink, written, complaints) = sink(as_file(ours));
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let line = "x".repeat(999);
        for _ in 0..3000 {
            push(&mut sink, &line);
        }
        sink.flush();
        assert_eq!(written.load(Ordering::Relaxed), 3000);
        assert_eq!(heard(&complaints), "");
        drop(sink);
        assert_eq!(reading.join().unwrap(), format!("{line}\n").repeat(3000).as_bytes());
    }

    #[test]
    fn a_line_that_was_cut_does_not_spoil_the_next_one() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let keep = ours.try_clone().unwrap();
        let (mut sink, written, complaints) = sink(as_file(ours));
        let reading = thread::spawn(move || {
            // Once the first bytes are here, the writer is in the long line, which no socket buffer holds.
            let mut bytes = vec![0; 9];
            theirs.read_exact(&mut bytes).unwrap();
            keep.shutdown(Shutdown::Write).unwrap();
            theirs.read_to_end(&mut bytes).unwrap();
            bytes
        });
        push(&mut sink, "whole");
        push(&mut sink, &"x".repeat(10_000_000));
        sink.flush();
        let bytes = reading.join().unwrap();
        assert!(bytes.starts_with(b"whole\nxxx") && !bytes.ends_with(b"\n"));
        assert_eq!(written.load(Ordering::Relaxed), 1);
        assert!(heard(&complaints).ends_with("; lines lost so far: 1\n"));

        let next = tempfile::tempfile().unwrap();
        let Target::Stream(stream) = &mut sink.target else { unreachable!() };
        stream.file = next.try_clone().unwrap();
        push(&mut sink, "next");
        sink.flush();
        push(&mut sink, "last");
        sink.flush();
        let mut shown = [0; 11];
        std::os::unix::fs::FileExt::read_exact_at(&next, &mut shown, 0).unwrap();
        assert_eq!(&shown, b"\nnext\nlast\n");
        assert_eq!(written.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_big_batch_leaves_before_its_end() {
        let file = tempfile::tempfile().unwrap();
        let (mut sink, written, _complaints) = sink(file.try_clone().unwrap());
        let line = "x".repeat(BATCH / 4);
        for _ in 0..3 {
            push(&mut sink, &line);
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
        push(&mut sink, &line);
        assert_eq!(written.load(Ordering::Relaxed), 4);
        assert_eq!(file.metadata().unwrap().len(), BATCH as u64 + 4);
    }
}
