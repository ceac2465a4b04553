//! An HTTP client that sends exactly what it is told, and reads answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(40);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub(crate) struct Wire(BufReader<Box<dyn Stream>>);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What was refused and why, in one text.
    pub(crate) fn refusal(&self) -> String {
        let refusal: tidegate::control::model::Refusal =
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        format!("{} {:?} {refusal}", self.status, refusal.kind)
    }
}

impl Wire {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    #[cfg(unix)]
    pub(crate) fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer, not an end")
    }

    /// The next answer; none if the connection ends before it.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {first:?}"));
        let mut headers = BTreeMap::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(size) = self.line() {
                let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
                let mut chunk = vec![0; size];
                self.0.read_exact(&mut chunk).expect("a whole chunk");
                body.extend(chunk);
                assert_eq!(self.line().as_deref(), Some(""));
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = headers.get("content-length") {
            body = vec![0; length.parse().expect("a length")];
            self.0.read_exact(&mut body).expect("a whole body");
        } else {
            self.0.read_to_end(&mut body).expect("a body");
        }
        Some(Answer { status, headers, body: String::from_utf8(body).expect("text") })
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Reads until the other side ends the connection, and says how many bytes came.
    pub(crate) fn drain(&mut self) -> usize {
        let mut bytes = 0;
        let mut buffer = [0; 1 << 16];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return bytes,
                Ok(count) => bytes += count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
                Err(error) => panic!("it does not end: {error}"),
            }
        }
    }

    /// Sends a request of the usual form, and gives its answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += "host: localhost\r\n";
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("content-length: {}\r\n", body.len());
        }
        self.send(format!("{text}\r\n{body}")).answer()
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, &[], "")
    }

    /// Sends a body of JSON.
    pub(crate) fn json(&mut self, method: &str, target: &str, body: &str) -> Answer {
        self.ask(method, target, &[("content-type", "application/json")], body)
    }
}

/// What a server answers to GET: the status and the body. `None` when it cannot be reached.
pub(crate) fn get(address: SocketAddr, target: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {target} HTTP/1.0\r\nhost: {address}\r\n\r\n").ok()?;
    Wire::tcp(stream).try_answer().map(|answer| (answer.status, answer.body))
}

/// A value as it stands in a query.
pub(crate) fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
