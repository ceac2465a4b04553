//! Who is measured, and how each is started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::{Found, Peer, Place, Prepared};
use super::results::{self, Kind};
use crate::config::{EngineKind, Uring};
use crate::engine::{FACTS, Model, probe};
use crate::process;

/// Behind the name of an engine: it may splice.
const SPLICE: &str = "+splice";

/// The hidden command of a tidegate that counts its calls.
const PROXY: &str = "lab-proxy";

/// Who is measured.
pub(super) struct Subject {
    /// What the results say of it.
    pub(super) info: results::Subject,
    pub(super) who: Who,
}

pub(super) enum Who {
    /// Nobody: clients talk to the back end.
    Direct,
    /// This program, or another build of it.
    Tidegate { program: PathBuf, engine: EngineKind, splice: bool },
    /// Another proxy.
    Peer(Found),
    /// It cannot run here; the results say why.
    Absent,
}

impl Subject {
    pub(super) fn direct() -> Self {
        Self { info: info("direct", Kind::Direct), who: Who::Direct }
    }

    /// An engine of this program by its name, `mio+splice` too.
    pub(super) fn engine(name: &str, program: &Path) -> Option<Self> {
        let (engine, splice) = engine_named(name)?;
        let mut info = results::Subject {
            model: FACTS.iter().find(|facts| facts.kind == engine).map(|facts| facts.model.to_string()),
            version: format!("tidegate {}", env!("CARGO_PKG_VERSION")),
            ..info(&full_name(engine, splice), Kind::Engine)
        };
        let who = match probe(engine, Uring::default(), 1) {
            Ok(()) => Who::Tidegate { program: program.to_owned(), engine, splice },
            Err(why) => {
                info.absent = Some(format!("{} ({})", why.cause, why.remedy));
                Who::Absent
            }
        };
        Some(Self { info, who })
    }

    /// Another build of this program, with the default engine.
    pub(super) fn build(name: &str, program: &Path) -> Self {
        let mut info = info(name, Kind::Build);
        let version = Command::new(program).arg("--version").output();
        let said = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let who = match said {
            Ok(said) if said.starts_with("tidegate ") && !has_lab(program) => {
                info.absent =
                    Some(format!("{} was built without the lab, or before there was one", program.display()));
                Who::Absent
            }
            Ok(said) if said.starts_with("tidegate ") => {
                info.version = said.lines().next().unwrap_or_default().to_owned();
                let engine = EngineKind::Auto.resolved();
                Who::Tidegate { program: program.to_owned(), engine, splice: false }
            }
            Ok(_) => {
                info.absent =
                    Some(format!("{} is not a tidegate: see what `--version` says", program.display()));
                Who::Absent
            }
            Err(error) => {
                info.absent = Some(format!("{} cannot be started: {error}", program.display()));
                Who::Absent
            }
        };
        Self { info, who }
    }

    /// Another proxy; `given` is where it is, if that was said.
    pub(super) fn peer(peer: &'static Peer, given: Option<&Path>) -> Self {
        let mut info = info(peer.name, Kind::Peer);
        let who = match peer.find(given) {
            Ok(found) => {
                info.version = found.version();
                Who::Peer(found)
            }
            Err(why) => {
                info.absent = Some(why);
                Who::Absent
            }
        };
        Self { info, who }
    }

    /// The most connections that it can have, where there is a limit beside that of descriptors.
    pub(super) fn most_connections(&self) -> u32 {
        let Who::Tidegate { engine, .. } = self.who else { return u32::MAX };
        let most = process::most_connections(engine).unwrap_or(u64::MAX);
        u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// Its command and configuration for one place. With `counts`, a tidegate counts its calls.
    pub(super) fn prepare(
        &self,
        directory: &Path,
        place: &Place,
        counts: bool,
    ) -> anyhow::Result<Option<Prepared>> {
        match &self.who {
            Who::Direct | Who::Absent => Ok(None),
            Who::Peer(found) => found.prepare(directory, place).map(Some),
            Who::Tidegate { program, engine, splice } => {
                let configuration = configuration(*engine, *splice, place);
                let file = directory.join("tidegate.toml");
                fs::write(&file, &configuration)?;
                let mut command = Command::new(program);
                command.arg(if counts { PROXY } else { "run" }).arg("-c").arg(&file);
                let line = "tidegate run -c tidegate.toml".to_owned();
                Ok(Some(Prepared { command, configuration, line }))
            }
        }
    }
}

/// Whether a tidegate can count its calls.
fn has_lab(program: &Path) -> bool {
    Command::new(program).args([PROXY, "--help"]).output().is_ok_and(|output| output.status.success())
}

/// Names that may stand for engines, in the order in which they are measured.
pub(super) fn engine_names() -> Vec<String> {
    let mut names: Vec<String> = FACTS.iter().map(|facts| facts.kind.name().to_owned()).collect();
    names.insert(1, full_name(EngineKind::Auto.resolved(), true));
    names
}

fn engine_named(name: &str) -> Option<(EngineKind, bool)> {
    let (plain, splice) = name.strip_suffix(SPLICE).map_or((name, false), |plain| (plain, true));
    let (_, kind) = EngineKind::NAMES.into_iter().find(|(known, _)| *known == plain)?;
    let facts = FACTS.iter().find(|facts| facts.kind == kind.resolved())?;
    (!splice || facts.model == Model::Readiness).then_some((facts.kind, splice))
}

fn full_name(engine: EngineKind, splice: bool) -> String {
    format!("{}{}", engine.name(), if splice { SPLICE } else { "" })
}

fn info(name: &str, kind: Kind) -> results::Subject {
    results::Subject {
        name: name.to_owned(),
        kind,
        model: None,
        version: String::new(),
        command: String::new(),
        configuration: String::new(),
        absent: None,
    }
}

/// One worker, no access log, everything else as it is by default.
fn configuration(engine: EngineKind, splice: bool, place: &Place) -> String {
    let servers: String = (1..)
        .zip(&place.back_ends)
        .map(|(number, addr): (u32, &SocketAddr)| {
            format!("  {{ name = \"s{number}\", addr = \"{addr}\" }},\n")
        })
        .collect();
    format!(
        "[process]\nworkers = 1\nengine = \"{}\"\nengine_fallback = false\nsplice = \"{}\"\nmaxconn = {}\n\n\
         [log.access]\noutput = \"off\"\n\n\
         [listener.lab]\nbind = [\"{}\"]\npool = \"lab\"\n\n\
         [pool.lab]\nbalance = \"round_robin\"\nserver = [\n{servers}]\n",
        engine.name(),
        if splice { "auto" } else { "off" },
        place.connections,
        place.listen
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_engine_and_no_other_is() {
        for name in engine_names() {
            let subject = Subject::engine(&name, Path::new("tidegate")).unwrap();
            assert_eq!(subject.info.name, name);
        }
        assert_eq!(engine_named("readiness"), engine_named("mio"));
        assert!(Subject::engine("epoll", Path::new("tidegate")).is_none());
        assert!(Subject::engine("threads+splice", Path::new("tidegate")).is_none());
    }

    #[test]
    fn the_configuration_is_right() {
        let back_ends = vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        let place =
            Place { listen: "127.0.0.1:3".parse().unwrap(), back_ends, connections: 9, descriptors: 100 };
        for facts in FACTS {
            let text = configuration(facts.kind, true, &place);
            let config = crate::config::parse(&text, "x").unwrap_or_else(|report| panic!("{report}"));
            assert_eq!((config.process.engine, config.pools[0].servers.len()), (facts.kind, 2));
        }
    }
}
