//! What the fuzzers of `fuzz/` have found worth keeping, played again.

#[path = "support/header.rs"]
mod header;
#[path = "support/hello.rs"]
mod hello;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/reread.rs"]
mod reread;
#[path = "support/server_list.rs"]
mod server_list;
#[path = "support/trace.rs"]
mod trace;

use std::path::Path;

#[test]
fn lives_of_a_relay() {
    let lives = replay("flow_trace", trace::play);
    assert!(lives.len() >= 24, "only {} lives: where is the corpus?", lives.len());
}

#[test]
fn configurations() {
    let [taken, refused] = [true, false]
        .map(|wanted| replay("config", reread::check).into_iter().filter(|taken| *taken == wanted).count());
    println!("{taken} configurations, {refused} other texts");
    assert!(taken >= 8 && refused >= 8, "{taken} and {refused}: where is the corpus?");
}

#[test]
fn proxy_headers() {
    let [whole, refused] = [true, false].map(|wanted| {
        replay("proxy_header", header::check).into_iter().filter(|whole| *whole == wanted).count()
    });
    println!("{whole} headers, {refused} other texts");
    assert!(whole >= 8 && refused >= 8, "{whole} and {refused}: where is the corpus?");
}

#[test]
fn client_hellos() {
    let [whole, others] = [true, false].map(|wanted| {
        replay("client_hello", hello::check).into_iter().filter(|whole| *whole == wanted).count()
    });
    println!("{whole} hellos, {others} other texts");
    assert!(whole >= 8 && others >= 8, "{whole} and {others}: where is the corpus?");
}

#[test]
fn server_lists() {
    let [taken, refused] = [true, false].map(|wanted| {
        replay("server_list", server_list::check).into_iter().filter(|taken| *taken == wanted).count()
    });
    println!("{taken} lists, {refused} other texts");
    assert!(taken >= 8 && refused >= 8, "{taken} and {refused}: where is the corpus?");
}

#[test]
fn registrations() {
    let [whole, refused] = [true, false].map(|wanted| {
        replay("registry", registry::check).into_iter().filter(|whole| *whole == wanted).count()
    });
    println!("{whole} answers, {refused} other texts");
    assert!(whole >= 8 && refused >= 8, "{whole} and {refused}: where is the corpus?");
}

/// Plays every file of a corpus; says what came of each. The name of the last one is printed by a test that fails.
fn replay<T>(target: &str, play: impl Fn(&[u8]) -> T) -> Vec<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    files
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            println!("{}", path.display());
            play(&std::fs::read(path).expect("the file can be read"))
        })
        .collect()
}
