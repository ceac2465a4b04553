//! The page with the program itself behind it.

use serde_json::Value;

use crate::browser::Browser;
use crate::support::gate::{Config, Gate};
use crate::support::http::get;
use crate::support::servers::Server;
use crate::support::service::{Home, Place, installed};
use crate::{TURN, picture};

const TOKEN: &str = "a-token-for-this-test-only";

/// The program between two servers, which may be changed over HTTP, and where it is asked.
fn gate(home: &Home, servers: &[Server; 2]) -> (Gate, std::net::SocketAddr) {
    let Place::Ip(http) = home.place("127.0.0.1") else { panic!("it is an address") };
    let token = home.write("token", TOKEN);
    let admin = format!(
        "socket = \"off\"\nhttp = \"{http}\"\nhttp_write = true\nhttp_token_file = \"{}\"",
        token.display()
    );
    let config = Config::new("mio").workers(2).server(servers[0].address()).server(servers[1].address());
    (Gate::start(&config.table("admin", &admin)), http)
}

fn status(http: std::net::SocketAddr) -> Value {
    let (code, body) = get(http, "/api/v1/status").expect("it answers");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn the_program_itself_is_shown_and_changed() {
    if !installed(&["chromium"]) {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (home, servers) = (Home::new(), [(); 2].map(|()| Server::echo()));
    let (gate, http) = gate(&home, &servers);
    let _kept: Vec<_> = (0..4).map(|_| gate.connect()).collect();
    let mut browser = Browser::start();
    browser.resize(1280, 900);
    browser.open(&format!("http://{http}/"));
    browser.until("document.querySelectorAll('#connections tbody tr').length === 4");
    browser.until("document.querySelector('#listeners td:nth-of-type(2)')?.textContent === '4'");
    gate.echo(3 << 20);
    browser.until("document.querySelector('#listeners td.wide')?.textContent.startsWith('1 as it should')");
    assert_eq!(browser.text("#phase"), "Serving");
    assert_eq!(browser.value("document.querySelectorAll('#workers tbody tr').length"), 2);

    browser.tab_to("button[aria-label='Change p/s0']");
    browser.press("Enter");
    browser.until("document.querySelector('#change').open");
    browser.press("ArrowDown");
    browser.tab_to("#token");
    browser.type_over(TOKEN);
    browser.press("Enter");
    browser.until("document.querySelector('#pools .state').textContent === '◐ drain'");
    assert_eq!(status(http)["pools"][0]["servers"][0]["state"], "drain");
    let log = browser.text("#log");
    assert!(log.contains("ready -> drain. The next reload keeps it"), "{log}");
    let before = servers.each_ref().map(Server::accepted);
    (0..4).for_each(|_| gate.echo(10));
    assert_eq!(servers.each_ref().map(Server::accepted), [before[0], before[1] + 4]);

    browser.tab_to("#filter [name=source]");
    browser.type_over("10.1.2.999");
    browser.until("!document.querySelector('#refused').hidden");
    picture(&mut browser, "real");
    browser.type_over("127.0.0.0/8");
    browser.until("document.querySelector('#refused').hidden");
    browser.until("document.querySelectorAll('#connections tbody tr').length === 4");
    let complaints = browser.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("status of 400"), "{complaints:?}");

    drop(gate);
    browser.until("document.querySelector('#phase').textContent === 'No answer'");
}
