//! `proxy.toml` on disk: files that include others, files that cannot be read, and every error of all of
//! them in one report.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate::config::{self, Config, Report};

/// A folder with configuration files, gone at the end of the test.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Config, Report> {
        config::load(&self.path("proxy.toml"))
    }

    /// The errors as `file:line:column message / help`, with the folder left out.
    fn errors(&self) -> Vec<String> {
        let report = self.load().expect_err("the files have errors");
        let shown = |problem: &config::Problem| {
            let place = problem.place.as_ref().map(|at| format!(":{}:{}", at.line, at.column));
            let help = problem.help.as_ref().map(|help| format!(" / {help}"));
            let shown = [
                problem.file.clone(),
                place.unwrap_or_default(),
                format!(" {}", problem.message),
                help.unwrap_or_default(),
            ];
            shown.concat().replace(&format!("{}/", self.0.path().display()), "")
        };
        report.errors.iter().map(shown).collect()
    }
}

const LISTENER: &str = "[listener.web]\nbind = [\"127.0.0.1:8080\"]\npool = \"web\"\n";
const POOL: &str =
    "[pool.web]\nbalance = \"round_robin\"\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]\n";
const INCLUDE: &str = "include = [\"conf.d/*.toml\"]\n";

#[test]
fn included_files_are_joined_table_by_table() {
    let first = format!("{INCLUDE}[process]\nworkers = 2\n[log]\nlevel = \"warn\"\n{LISTENER}");
    let included = format!(
        "config_version = 1\n[process.drain]\nhard_stop = \"1m\"\n[log.access]\noutput = \"off\"\n{POOL}"
    );
    let folder = Folder::new(&[
        ("proxy.toml", &first),
        ("conf.d/a.toml", &included),
        ("conf.d/b.toml", &POOL.replace("web", "api")),
        ("conf.d/ignored.txt", "not = a = toml"),
    ]);
    let config = folder.load().unwrap();
    let whole = format!(
        "{}{}{}",
        first.replace(INCLUDE, ""),
        included.replace("config_version = 1", ""),
        POOL.replace("web", "api")
    );
    assert_eq!(config, config::parse(&whole, "whole").unwrap());
    assert_eq!(config.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["web", "api"]);
}

#[test]
fn patterns_start_in_the_folder_of_the_file_whatever_its_name() {
    let files = [("we[i]rd/proxy.toml", &*format!("{INCLUDE}{LISTENER}")), ("we[i]rd/conf.d/a.toml", POOL)];
    let folder = Folder::new(&files);
    assert_eq!(config::load(&folder.path("we[i]rd/proxy.toml")).unwrap().pools.len(), 1);

    let absolute = format!("include = [\"{}\"]\n{LISTENER}", folder.path("pool.toml").display());
    folder.write("proxy.toml", absolute.as_bytes());
    folder.write("pool.toml", POOL.as_bytes());
    assert_eq!(folder.load().unwrap().pools.len(), 1);
}

#[test]
fn a_pattern_may_match_nothing_but_a_named_file_must_be_there() {
    let folder = Folder::new(&[("proxy.toml", &format!("{INCLUDE}{LISTENER}{POOL}"))]);
    assert!(folder.load().is_ok());
    folder.write("proxy.toml", format!("include = [\"conf.d/a.toml\"]\n{LISTENER}{POOL}").as_bytes());
    assert_eq!(folder.errors(), ["proxy.toml:1:12 there is no file \"conf.d/a.toml\""]);
}

#[test]
fn a_table_in_two_files_is_named_with_both_places() {
    let folder = Folder::new(&[
        ("proxy.toml", &format!("{INCLUDE}[process]\nworkers = 2\n{LISTENER}{POOL}")),
        ("conf.d/a.toml", &format!("{POOL}[process]\nmaxconn = 9\n{}", LISTENER.replace("8080", "8081"))),
    ]);
    let help = "a table stands in one file only: rename it or join the two";
    let expected = [
        format!("conf.d/a.toml:1:1 [pool.web] is already in proxy.toml:7:1 / {help}"),
        format!("conf.d/a.toml:4:1 [process] is already in proxy.toml:2:1 / {help}"),
        format!("conf.d/a.toml:6:1 [listener.web] is already in proxy.toml:4:1 / {help}"),
    ];
    assert_eq!(folder.errors(), expected);
}

#[test]
fn an_address_in_two_files_is_named_with_both_places() {
    let folder = Folder::new(&[
        ("proxy.toml", &format!("{INCLUDE}{LISTENER}{POOL}")),
        ("conf.d/a.toml", "[listener.b]\nbind = [\"0.0.0.0:8080\"]\npool = \"web\"\n"),
    ]);
    let expected = "conf.d/a.toml:2:9 0.0.0.0:8080 is taken by 127.0.0.1:8080 at proxy.toml:3:9 / use another \
                    port, or addresses that differ";
    assert_eq!(folder.errors(), [expected]);
}

#[test]
fn includes_do_not_nest_nor_come_back() {
    let folder = Folder::new(&[
        ("proxy.toml", &format!("include = [\"*.toml\", \"a.toml\"]\n{LISTENER}{POOL}")),
        ("a.toml", "include = [\"b.toml\"]\n"),
    ]);
    let once = "a file includes neither itself nor another one twice";
    let expected = [
        format!("proxy.toml:1:12 proxy.toml is read twice / {once}"),
        format!("proxy.toml:1:22 a.toml is read twice / {once}"),
        "a.toml:1:11 an included file cannot include others / list every file in the first one".to_owned(),
    ];
    assert_eq!(folder.errors(), expected);
}

#[test]
fn every_error_of_every_file_comes_at_once() {
    let folder = Folder::new(&[
        (
            "proxy.toml",
            &format!("include = [\"conf.d/*.toml\", 5]\n[process]\nworkers = 0\n{LISTENER}bakclog = 1\n"),
        ),
        ("conf.d/a.toml", &format!("{POOL}[pool.x\n")),
        ("conf.d/b.toml", "[log]\nlevel = \"loud\"\n[listener.x.tls]\n"),
    ]);
    let expected = [
        "proxy.toml:1:29 expected a string, found the number 5",
        "proxy.toml:3:11 expected \"auto\" or a whole number from 1 to 1024, found the number 0 / the least is 1; or write \"auto\"",
        "proxy.toml:7:1 unknown key `bakclog` in [listener.web] / did you mean `backlog`?",
        "conf.d/a.toml:4:8 unclosed table, expected `]`",
        "conf.d/b.toml:2:9 expected \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"loud\"",
        "conf.d/b.toml:3:13 `tls` in [listener.x] is not supported yet by this version",
    ];
    assert_eq!(folder.errors(), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = Folder::new(&[]);
    let errors = folder.errors();
    assert!(errors.len() == 1 && errors[0].starts_with("proxy.toml cannot read it: "), "{errors:?}");

    // A pool may be in the file that was not read, so only that is said.
    folder.write("proxy.toml", format!("{INCLUDE}{LISTENER}").as_bytes());
    fs::create_dir_all(folder.path("conf.d/a.toml")).unwrap();
    let errors = folder.errors();
    let start = "proxy.toml:1:12 cannot read conf.d/a.toml: ";
    assert!(errors.len() == 1 && errors[0].starts_with(start), "{errors:?}");
}

#[test]
fn bytes_that_are_not_utf8_are_pointed_at() {
    let folder = Folder::new(&[]);
    folder.write("proxy.toml", b"config_version = 1\n# caf\xe9 \n");
    let report = folder.load().unwrap_err();
    assert_eq!(folder.errors(), ["proxy.toml:2:6 this byte is not UTF-8"]);
    assert_eq!(report.errors[0].place.as_ref().unwrap().text, "# caf\u{fffd} ");
}

#[test]
fn a_report_is_shown_with_the_path_that_the_user_gave() {
    let folder =
        Folder::new(&[("proxy.toml", &format!("{LISTENER}[pool.web]\nfall_count = 3\n{}", &POOL[11..]))]);
    let path = folder.path("proxy.toml");
    let shown = format!(
        "error: unknown key `fall_count` in [pool.web]\n  --> {}:5:1\n   | fall_count = 3\n   = help: that is Envoy \
         language; here it is `fall` in [pool.NAME.check]",
        path.display()
    );
    assert_eq!(config::load(&path).unwrap_err().to_string(), shown);
}

#[test]
fn the_example_of_the_repository_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
    let config = config::load(&path).unwrap();
    assert_eq!(config::parse(&config::dump(&config), "dump").unwrap(), config);
}
