//! From files to a checked configuration: one walk over each file, then what only all of them together
//! can tell.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::admin::DraftAdmin;
use super::pools::{DraftListener, DraftPool};
use super::recover::recover;
use super::report::{Lines, Problem, Report, printable};
use super::sockets::Edits;
use super::value::{self, Fault, Parsed};
use super::{Access, Admin, Config, Dns, Log, Metrics, OwnTimeouts, Process, Retry, Tcp, known};

pub(super) type Key<'t> = Spanned<DeString<'t>>;
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The largest configuration file, in bytes.
const LARGEST_FILE: u64 = 64 << 20;

/// The newest `config_version` that this program knows.
const VERSION: u32 = 1;

pub(super) fn load(path: &Path) -> (Result<Config, Report>, Vec<PathBuf>) {
    match walk(path) {
        Ok((reader, draft, files)) => (reader.finish(draft), files),
        Err(report) => (Err(report), vec![path.to_owned()]),
    }
}

pub(super) fn admin(path: &Path) -> Result<Option<Admin>, Report> {
    let (reader, draft, _) = walk(path)?;
    let is_known = draft.admin.as_ref().map_or(!reader.lost_tables, |admin| admin.knows_socket);
    if is_known { Ok(draft.admin.map(|draft| draft.admin)) } else { Err(reader.report()) }
}

/// Walks the file at `path` and those that it includes: what was found in them, and every file and folder.
fn walk(path: &Path) -> Result<(Reader, Draft, Vec<PathBuf>), Report> {
    let mut files = vec![path.to_owned()];
    let mut reader = Reader::default();
    let mut draft = Draft::default();
    let name = path.display().to_string();
    match value::read_up_to(path, LARGEST_FILE) {
        Err(error) => {
            let problem =
                Problem { file: name, place: None, message: format!("cannot read it: {error}"), help: None };
            return Err(Report { errors: vec![problem] });
        }
        Ok(bytes) => {
            let folder = path.parent().unwrap_or_else(|| Path::new(""));
            reader.include_from = IncludeFrom::Folder(folder.to_owned());
            reader.bytes(name, bytes, &mut draft);
        }
    }
    reader.include_from = IncludeFrom::Included;
    let mut seen = vec![fs::canonicalize(path).ok()];
    for (file, at) in std::mem::take(&mut reader.includes) {
        reader.included_file(&file, at, &mut seen, &mut draft);
        // Another file in the folder may be one to include.
        let folder = file.parent().map(Path::to_owned);
        files.extend(folder.into_iter().chain([file]));
    }
    files.sort_unstable();
    files.dedup();
    Ok((reader, draft, files))
}

pub(super) fn parse(text: &str, name: &str) -> Result<Config, Report> {
    let mut reader = Reader::default();
    let mut draft = Draft::default();
    reader.file(name.to_owned(), text.to_owned(), &mut draft);
    reader.finish(draft)
}

/// A place: the index of a file, and the offset in it or nothing for the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    file: usize,
    offset: Option<usize>,
}

impl At {
    /// The first file as a whole.
    pub(super) const START: Self = Self { file: 0, offset: None };
}

/// What has been read so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) process: Process,
    /// Where `buffer_budget` or, without it, `workers` or `buffer_size` was set.
    pub(super) budget_at: Option<At>,
    pub(super) admin: Option<DraftAdmin>,
    pub(super) log: Log,
    pub(super) access: Access,
    pub(super) metrics: Metrics,
    pub(super) dns: Dns,
    pub(super) timeouts: OwnTimeouts,
    /// `max_lifetime_jitter`
    pub(super) jitter: Option<f64>,
    pub(super) tcp: Edits<Tcp>,
    pub(super) retry: Edits<Retry>,
    pub(super) listeners: Vec<DraftListener>,
    pub(super) pools: Vec<DraftPool>,
}

/// What `include` means in the file that is being read.
#[derive(Default)]
enum IncludeFrom {
    /// A text without a folder.
    #[default]
    Nowhere,
    /// Patterns start in this folder.
    Folder(PathBuf),
    /// The file is itself included.
    Included,
}

/// A file that has been read, kept for the errors that point into it.
struct Source {
    name: String,
    text: String,
    /// Statements that were not understood.
    blanked: Vec<Range<usize>>,
}

/// Walks files and collects what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    sources: Vec<Source>,
    found: Vec<(At, Fault)>,
    /// Tables that are there already, by path.
    tables: HashMap<String, At>,
    include_from: IncludeFrom,
    /// Files to read after the first one, and where it asks for them.
    includes: Vec<(PathBuf, At)>,
    /// Whether tables may be missing only because they could not be read.
    lost_tables: bool,
}

/// A table of the configuration, with the key that the reference has for it.
pub(super) struct Section<'t> {
    /// Its path in the reference, such as `pool.NAME`.
    pub(super) kind: &'static str,
    /// Its path in the file, such as `pool.web`.
    pub(super) path: String,
    pub(super) at: At,
    pub(super) keys: &'t DeTable<'t>,
}

impl Reader {
    fn included_file(&mut self, file: &Path, at: At, seen: &mut Vec<Option<PathBuf>>, draft: &mut Draft) {
        let name = file.display();
        let identity = fs::canonicalize(file).ok();
        if identity.is_some() && seen.contains(&identity) {
            let fault = Fault::new(format!("{name} is read twice"));
            self.problem(at, fault.help("a file includes neither itself nor another one twice"));
            return;
        }
        seen.push(identity);
        match value::read_up_to(file, LARGEST_FILE) {
            Ok(bytes) => self.bytes(name.to_string(), bytes, draft),
            Err(error) => {
                self.lost_tables = true;
                self.problem(at, Fault::new(format!("cannot read {name}: {error}")));
            }
        }
    }

    fn bytes(&mut self, name: String, bytes: Vec<u8>, draft: &mut Draft) {
        match String::from_utf8(bytes) {
            Ok(text) => self.file(name, text, draft),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                self.sources.push(Source { name, text, blanked: Vec::new() });
                self.lost_tables = true;
                self.problem(self.at(offset), Fault::new("this byte is not UTF-8"));
            }
        }
    }

    /// Walks one file.
    fn file(&mut self, name: String, text: String, draft: &mut Draft) {
        let recovered = recover(&text);
        self.sources.push(Source { name, text, blanked: recovered.blanked });
        self.lost_tables |= recovered.lost_tables;
        for (offset, fault) in recovered.errors {
            self.problem(self.at(offset), fault);
        }
        let (root, _) = DeTable::parse_recoverable(&recovered.text);
        let top = Section { kind: "", path: String::new(), at: self.at(0), keys: root.get_ref() };
        for (key, value) in top.keys {
            match key.get_ref().as_ref() {
                "config_version" => {
                    self.take(value, config_version);
                }
                "include" => self.include(value),
                "process" => self.with(&top, key, value, "process", |r, s| r.process(s, draft)),
                "admin" => self.with(&top, key, value, "admin", |r, s| r.admin(s, draft)),
                "log" => self.with(&top, key, value, "log", |r, s| r.log(s, draft)),
                "metrics" => self.with(&top, key, value, "metrics", |r, s| r.metrics(s, draft)),
                "dns" => self.with(&top, key, value, "dns", |r, s| r.dns(s, draft)),
                "defaults" => self.with(&top, key, value, "defaults", |r, s| r.defaults(s, draft)),
                "listener" => self.named(key, value, "listener.NAME", |r, s| r.listener(s, draft)),
                "pool" => self.named(key, value, "pool.NAME", |r, s| r.pool(s, draft)),
                _ => self.unread(&top, key, value),
            }
        }
    }

    fn include(&mut self, value: &Value<'_>) {
        let at = self.at(value.span().start);
        let folder = match &self.include_from {
            IncludeFrom::Folder(folder) => folder.clone(),
            IncludeFrom::Included => {
                let fault = Fault::new("an included file cannot include others");
                return self.problem(at, fault.help("list every file in the first one"));
            }
            IncludeFrom::Nowhere => {
                return self.problem(at, Fault::new("`include` needs a file: this text has no folder"));
            }
        };
        for pattern in self.list(value, "an array of patterns such as [\"conf.d/*.toml\"]") {
            let at = self.at(pattern.span().start);
            match self.take(pattern, |pattern| files(&folder, pattern)) {
                Some(files) => self.includes.extend(files.into_iter().map(|file| (file, at))),
                None => self.lost_tables = true,
            }
        }
    }

    /// Reads the table under `key` of `parent` with `read`.
    pub(super) fn with<'t>(
        &mut self,
        parent: &Section<'_>,
        key: &Key<'_>,
        value: &'t Value<'t>,
        kind: &'static str,
        read: impl FnOnce(&mut Self, &Section<'t>),
    ) {
        let path = if parent.path.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{}.{}", parent.path, key.get_ref())
        };
        if let Some(section) = self.section(kind, path, value) {
            read(self, &section);
        }
    }

    /// Reads each table under `listener` or `pool` with `read`.
    fn named<'t>(
        &mut self,
        key: &Key<'_>,
        value: &'t Value<'t>,
        kind: &'static str,
        mut read: impl FnMut(&mut Self, &Section<'t>),
    ) {
        let key = key.get_ref();
        let DeValue::Table(tables) = value.get_ref() else {
            let help = format!("write [{key}.NAME], with a name of your own");
            let fault = Fault::mismatch("tables with names", value.get_ref()).help(help);
            return self.problem(self.at(value.span().start), fault);
        };
        for (name, value) in tables {
            if let Err(fault) = value::name(name.get_ref()) {
                self.problem(self.at(name.span().start), fault);
            }
            if !value.get_ref().is_table() {
                let help = format!("settings stand in [{key}.NAME], with a name of your own");
                let fault = Fault::new(format!("[{key}] has no key `{}`", name.get_ref())).help(help);
                self.problem(self.at(name.span().start), fault);
                continue;
            }
            if let Some(section) = self.section(kind, format!("{key}.{}", name.get_ref()), value) {
                read(self, &section);
            }
        }
    }

    /// The table that `value` is; one that another file has too is an error.
    pub(super) fn section<'t>(
        &mut self,
        kind: &'static str,
        path: String,
        value: &'t Value<'t>,
    ) -> Option<Section<'t>> {
        let at = self.at(value.span().start);
        let DeValue::Table(keys) = value.get_ref() else {
            let fault = Fault::mismatch(&format!("a table [{path}]"), value.get_ref());
            let key = path.rsplit_once('.').map_or(path.as_str(), |(_, key)| key);
            let help = known::help_for_table(kind, key, value::plain_number(value.get_ref()));
            self.problem(at, Fault { help, ..fault });
            return None;
        };
        // A table that only holds other tables may be in many files.
        let has_values = kind.ends_with("NAME") || keys.values().any(|value| !value.get_ref().is_table());
        if has_values && let Some(first) = self.tables.insert(path.clone(), at) {
            let fault = Fault::new(format!("[{path}] is already in {}", self.describe(first)));
            self.problem(at, fault.help("a table stands in one file only: rename it or join the two"));
        }
        Some(Section { kind, path, at, keys })
    }

    /// Reads a value, or notes why that is not possible.
    pub(super) fn take<T>(
        &mut self,
        value: &Value<'_>,
        parse: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<T> {
        parse(value.get_ref()).map_err(|fault| self.problem(self.at(value.span().start), fault)).ok()
    }

    /// Reads a value into `slot`.
    pub(super) fn set<T>(
        &mut self,
        slot: &mut T,
        value: &Value<'_>,
        parse: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) {
        if let Some(read) = self.take(value, parse) {
            *slot = read;
        }
    }

    /// The items of an array, which must have at least one; `expected` says what it should be.
    pub(super) fn list<'t>(&mut self, value: &'t Value<'t>, expected: &str) -> &'t [Value<'t>] {
        let fault = match value.get_ref() {
            DeValue::Array(items) if !items.is_empty() => return items,
            DeValue::String(text) => {
                Fault::mismatch(expected, value.get_ref()).help(format!("write it in brackets: [{text:?}]"))
            }
            DeValue::Array(_) => Fault::new(format!("expected {expected}, found an empty one")),
            _ => Fault::mismatch(expected, value.get_ref()),
        };
        self.problem(self.at(value.span().start), fault);
        &[]
    }

    /// Refuses a key that this version does not read.
    pub(super) fn unread(&mut self, section: &Section<'_>, key: &Key<'_>, value: &Value<'_>) {
        let name = key.get_ref();
        let fault = match known::help_for_unknown(section.kind, name) {
            None if section.path.is_empty() => Fault::not_yet(&format!("[{name}]")),
            None => Fault::not_yet(&format!("`{name}` in [{}]", section.path)),
            Some(help) => {
                let unknown = match (section.path.as_str(), value.get_ref().is_table()) {
                    ("", true) => format!("unknown table [{name}]"),
                    ("", false) => format!("unknown key `{name}` before the first table"),
                    (path, true) => format!("unknown table [{path}.{name}]"),
                    (path, false) => format!("unknown key `{name}` in [{path}]"),
                };
                Fault::new(unknown).help(help)
            }
        };
        self.problem(self.at(key.span().start), fault);
    }

    pub(super) fn at(&self, offset: usize) -> At {
        At { file: self.sources.len() - 1, offset: Some(offset) }
    }

    pub(super) fn problem(&mut self, at: At, fault: Fault) {
        self.found.push((at, fault));
    }

    /// Notes that a table is missing, unless it may be in what was not understood.
    pub(super) fn missing_table(&mut self, at: At, fault: Fault) {
        if !self.lost_tables {
            self.problem(at, fault);
        }
    }

    /// Notes that a key is missing from the table at `table`, unless it may be in what was not understood.
    pub(super) fn missing(&mut self, table: At, fault: Fault) {
        if !self.lost_keys(table) {
            self.missing_table(table, fault);
        }
    }

    /// The errors so far.
    pub(super) fn problems(&self) -> usize {
        self.found.len()
    }

    pub(super) fn has_problem(&self, at: At) -> bool {
        self.found.iter().any(|(found, _)| *found == at)
    }

    /// Whether keys of the table at `table` may be in what was not understood.
    pub(super) fn lost_keys(&self, table: At) -> bool {
        let Source { text, blanked, .. } = &self.sources[table.file];
        let start = table.offset.unwrap_or(0);
        let has_header = |text: &str| text.lines().skip(1).any(|line| line.trim_start().starts_with('['));
        blanked.iter().any(|lost| lost.start > start && !has_header(&text[start..lost.start]))
    }

    pub(super) fn describe(&self, at: At) -> String {
        let source = &self.sources[at.file];
        let place = Lines::new(&source.text).place(at.offset.unwrap_or(0));
        format!("{}:{}:{}", source.name, place.line, place.column)
    }

    /// Checks what all files together say, and makes the configuration of it.
    fn finish(mut self, draft: Draft) -> Result<Config, Report> {
        let config = self.join(draft);
        match config {
            Some(config) if self.found.is_empty() => Ok(config),
            _ => Err(self.report()),
        }
    }

    fn report(mut self) -> Report {
        self.found.sort_by_key(|(at, _)| *at);
        let lines: Vec<Lines<'_>> = self.sources.iter().map(|source| Lines::new(&source.text)).collect();
        let problem = |(at, fault): (At, Fault)| Problem {
            file: self.sources[at.file].name.clone(),
            place: at.offset.map(|offset| lines[at.file].place(offset)),
            message: printable(&fault.message),
            help: fault.help.as_deref().map(printable),
        };
        Report { errors: self.found.into_iter().map(problem).collect() }
    }
}

fn config_version(value: &DeValue<'_>) -> Parsed<()> {
    match value::integer(value, 1..=u32::MAX)? {
        VERSION => Ok(()),
        newer => Err(Fault::new(format!(
            "config_version {newer} is newer than this program, which knows {VERSION}"
        ))
        .help("use a newer tidegate, or write the file for config_version = 1")),
    }
}

/// The files that a pattern stands for, in the order of their names.
fn files(folder: &Path, pattern: &DeValue<'_>) -> Parsed<Vec<PathBuf>> {
    let pattern = value::text(pattern)?;
    let in_folder = if folder.as_os_str().is_empty() || Path::new(&pattern).is_absolute() {
        pattern.clone()
    } else {
        format!("{}/{pattern}", glob::Pattern::escape(&folder.display().to_string()))
    };
    let found = glob::glob(&in_folder)
        .map_err(|error| Fault::new(format!("{pattern:?} is not a pattern: {error}")))?;
    let files: Vec<PathBuf> = found
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::new(format!("cannot search {pattern:?}: {error}")))?;
    if files.is_empty() && !pattern.contains(['*', '?', '[']) {
        return Err(Fault::new(format!("there is no file {pattern:?}")));
    }
    Ok(files)
}
