//! Requests that are refused: with the status that says why, and without any effect.

use super::fake::served::{Served, TOKEN};
use super::support::http::Wire;
use super::world::fake;

fn assert_untouched(served: &Served) {
    assert_eq!(served.fake.changes(), [""; 0]);
}

#[test]
fn what_is_no_http_is_400() {
    let served = Served::new(fake());
    for text in [
        "reload\r\n\r\n",
        "POST /api/v1/reload\r\n\r\n",
        "POST /api/v1/reload HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "POST /api/v1/reload HTTP/1.1\r\nno colon\r\n\r\n",
        "POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        "\0\0\0\0\0\r\n\r\n",
    ] {
        for mut wire in [served.unix(), served.tcp()] {
            assert_eq!(wire.send(text).answer().status, 400, "{text:?}");
        }
    }
    assert_untouched(&served);
}

#[test]
fn wrong_bodies_are_refused_with_the_field_and_what_is_right() {
    let served = Served::new(fake());
    let server = "/api/v1/pools/web/servers/alpha";
    let cases = [
        ("PUT", format!("{server}/state"), "", "missing field `state`"),
        ("PUT", format!("{server}/state"), "{", "EOF while parsing"),
        ("PUT", format!("{server}/state"), "[]", "expected struct"),
        (
            "PUT",
            format!("{server}/state"),
            r#"{"state":"up"}"#,
            "`state`: unknown variant `up`, expected one of `ready`",
        ),
        ("PUT", format!("{server}/state"), r#"{"state":"drain"} {}"#, "more than one value"),
        ("PUT", format!("{server}/state"), r#"{"state":"drain","state":"ready"}"#, "duplicate field `state`"),
        (
            "PUT",
            format!("{server}/weight"),
            r#"{"weight":65536}"#,
            "`weight`: invalid value: integer `65536`, expected u16",
        ),
        ("PUT", format!("{server}/weight"), r#"{"weight":"5"}"#, "`weight`: invalid type: string"),
        (
            "PUT",
            "/api/v1/log-level".to_owned(),
            r#"{"level":"loud"}"#,
            "`level`: unknown variant `loud`, expected one of `off`",
        ),
        (
            "POST",
            "/api/v1/reload".to_owned(),
            r#"{"confirm":"60"}"#,
            "`confirm`: expected a duration such as \"5s\", found the string \"60\"; the units are ms, s, m and h",
        ),
        ("POST", "/api/v1/reload".to_owned(), r#"{"confirm":60}"#, "`confirm`: invalid type: integer"),
        ("POST", "/api/v1/reload/confirm".to_owned(), r#"{"yes":true}"#, "unknown field `yes`"),
        ("POST", "/api/v1/kill".to_owned(), "", "`filter`: no condition is given"),
        ("POST", "/api/v1/kill".to_owned(), r#"{"filter":{}}"#, "\"all\": true"),
        (
            "POST",
            "/api/v1/kill".to_owned(),
            r#"{"filter":{"pool":"web"},"all":true}"#,
            "`all`: it is given beside",
        ),
        (
            "POST",
            "/api/v1/kill".to_owned(),
            r#"{"filter":{"servre":"a"}}"#,
            "unknown field `servre`, expected one of `id`",
        ),
        (
            "POST",
            "/api/v1/kill".to_owned(),
            r#"{"all":true,"rate":0}"#,
            "`rate`: invalid value: integer `0`, expected a nonzero",
        ),
        (
            "POST",
            "/api/v1/pools/web/rebalance".to_owned(),
            r#"{"rate":-1}"#,
            "`rate`: invalid value: integer `-1`",
        ),
    ];
    for (method, target, body, part) in cases {
        let refusal = served.unix().json(method, &target, body).refusal();
        assert!(refusal.starts_with("400 Invalid") && refusal.contains(part), "{target} {body}: {refusal}");
    }
    assert_untouched(&served);
}

#[test]
fn unknown_names_paths_methods_and_queries_are_refused() {
    let served = Served::new(fake());
    let state = r#"{"state":"drain"}"#;
    let cases = [
        ("PUT", "/api/v1/pools/wbe/servers/alpha/state", state, "404 NotFound there is no pool \"wbe\""),
        (
            "PUT",
            "/api/v1/pools/web/servers/gamma/state",
            state,
            "404 NotFound pool web has no server \"gamma\"",
        ),
        ("PUT", "/api/v1/pools/web/servers/%ff/state", state, "400 Invalid "),
        ("POST", "/api/v1/pools/wbe/rebalance", "", "404 NotFound there is no pool"),
        ("GET", "/api/v1/connections?server=web/gamma", "", "404 NotFound pool web has no server"),
        ("GET", "/api/v2/status", "", "404 NotFound there is no /api/v2/status"),
        ("GET", "/api/v1/status/", "", "404 NotFound there is no /api/v1/status/"),
        ("DELETE", "/api/v1/status", "", "405 Invalid /api/v1/status cannot be asked with DELETE"),
        ("GET", "/api/v1/reload", "", "405 Invalid /api/v1/reload cannot be asked with GET"),
        (
            "GET",
            "/api/v1/status?pool=web",
            "",
            "400 Invalid unknown query parameter `pool`: /api/v1/status takes none",
        ),
        ("POST", "/api/v1/reload?confirm=60s", "", "400 Invalid unknown query parameter `confirm`"),
        (
            "GET",
            "/api/v1/connections?colour=red",
            "",
            "400 Invalid unknown field `colour`, expected one of `id`",
        ),
        (
            "GET",
            "/api/v1/connections?limit=some",
            "",
            "400 Invalid `limit`: expected a whole number, found \"some\"",
        ),
    ];
    for (method, target, body, part) in cases {
        let refusal = served.unix().json(method, target, body).refusal();
        assert!(refusal.starts_with(part), "{method} {target}: {refusal}");
    }
    assert_eq!(served.unix().get("/api/v1/reload").header("allow"), "POST");
    assert_untouched(&served);
}

#[test]
fn a_confirmation_that_nothing_waits_for_is_a_conflict() {
    let served = Served::new(fake());
    served.fake.world(|world| world.status.config.confirm_within_s = None);
    let refusal = served.unix().json("POST", "/api/v1/reload/confirm", "").refusal();
    assert!(refusal.starts_with("409 Conflict no reload waits"), "{refusal}");
    assert_untouched(&served);
}

#[test]
fn a_body_must_be_said_to_be_json() {
    let served = Served::new(fake());
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/jsonx")]] {
        let answer = served.unix().ask("POST", "/api/v1/kill", headers, r#"{"all":true}"#);
        assert!(answer.refusal().starts_with("415 Invalid"), "{answer:?}");
    }
    assert_untouched(&served);
    let headers = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(served.unix().ask("POST", "/api/v1/kill", &headers, r#"{"all":true}"#).status, 200);
}

#[test]
fn a_configuration_with_errors_is_shown_them() {
    let served = Served::new(fake());
    let refusal = served.unix().ask("POST", "/api/v1/diff", &[], "[listner.web]\n").refusal();
    assert!(refusal.starts_with("400 Invalid") && refusal.contains("listner"), "{refusal}");
    let mut wire = served.unix();
    wire.send("POST /api/v1/diff HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n").send(b"a\xff");
    let refusal = wire.answer().refusal();
    assert!(refusal.contains("not UTF-8: its byte 1 begins no letter"), "{refusal}");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let served = Served::new(fake());
    let head = |rest: &str| {
        format!(
            "POST /api/v1/kill HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rest}\r\n\r\n"
        )
    };
    let answer = served.unix().send(head("content-length: 1048577")).answer();
    assert!(answer.refusal().starts_with("413 TooLarge"), "{answer:?}");
    assert_eq!(answer.header("connection"), "close");

    let mut wire = served.unix();
    wire.send(head("transfer-encoding: chunked"));
    for _ in 0..17 {
        wire.send(format!("10000\r\n{}\r\n", " ".repeat(0x1_0000)));
    }
    let answer = wire.answer();
    assert!(answer.refusal().starts_with("413 TooLarge"), "{answer:?}");

    let most = " ".repeat((1 << 20) - 12) + r#"{"all":true}"#;
    assert_eq!(served.unix().json("POST", "/api/v1/kill", &most).status, 200);
    assert_eq!(served.fake.changes().len(), 1);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let served = Served::new(fake());
    let many = "x: y\r\n".repeat(100);
    let long = format!("x: {}\r\n", "y".repeat(80_000));
    for headers in [many, long] {
        let mut wire = served.unix();
        wire.send(format!("POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"));
        assert_eq!(wire.answer().status, 431);
    }
    assert_untouched(&served);
}

#[test]
fn slow_requests_are_408() {
    let served = Served::new(fake());
    let mut head = served.unix();
    head.send("POST /api/v1/reload HTTP/1.1\r\nhost: loc");
    let mut body = served.unix();
    body.send(
        "POST /api/v1/kill HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{",
    );
    let mut silent = served.unix();
    let answer = head.answer();
    assert!(answer.refusal().starts_with("408 Slow the head"), "{answer:?}");
    assert!(silent.try_answer().is_none(), "who asked nothing is told nothing");
    let answer = body.answer();
    assert!(answer.refusal().starts_with("408 Slow the body"), "{answer:?}");
    assert_eq!(body.drain(), 0);
    assert_untouched(&served);
}

fn with_token(wire: &mut Wire, method: &str, target: &str, token: &str) -> u16 {
    wire.ask(method, target, &[("authorization", token)], "").status
}

#[test]
fn changes_over_tcp_need_the_token() {
    let served = Served::writable(fake());
    let reload = |token: &str| with_token(&mut served.tcp(), "POST", "/api/v1/reload", token);
    let answer = served.tcp().ask("POST", "/api/v1/reload", &[], "");
    assert!(answer.refusal().starts_with("401 Unauthorized"), "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        &format!("Basic {TOKEN}"),
        &format!("Bearer {TOKEN}x"),
        &format!("Bearer {}", &TOKEN[1..]),
        &format!("Bearer {}", TOKEN.to_uppercase()),
    ] {
        assert_eq!(reload(wrong), 401, "{wrong}");
    }
    let twice = [("authorization", &*format!("Bearer {TOKEN}")), ("authorization", "Bearer x")];
    assert_eq!(served.tcp().ask("POST", "/api/v1/reload", &twice, "").status, 401);
    assert_untouched(&served);
    assert_eq!(reload(&format!("bearer {TOKEN}")), 200);
    assert_eq!(served.fake.changes(), ["reload None"]);
}

#[test]
fn requests_by_a_foreign_name_are_refused() {
    let served = Served::writable(fake());
    for target in ["/api/v1/status", "/api/v1/connections", "/metrics", "/"] {
        for host in ["evil.example", "evil.example:9901", "localhost.evil.example", "evil"] {
            let answer = served.tcp().ask("GET", target, &[("host", host)], "");
            assert!(answer.refusal().starts_with("403 Forbidden this host is not"), "{host}: {answer:?}");
        }
        for host in ["127.0.0.1", "[::1]:9901", "localhost:80", "10.1.2.3:9901"] {
            assert_eq!(served.tcp().ask("GET", target, &[("host", host)], "").status, 200, "{host}");
        }
    }
    let absolute = "GET http://evil.example/api/v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(served.tcp().send(absolute).answer().status, 403);
    let [none, two] = ["", "host: localhost\r\nhost: localhost\r\n"];
    for hosts in [none, two] {
        let text = format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(served.tcp().send(&text).answer().status, 400, "{hosts}");
    }
    assert_eq!(served.tcp().send("GET /healthz HTTP/1.0\r\n\r\n").answer().status, 200);
    let known = [("host", "evil.example"), ("authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(served.tcp().ask("GET", "/api/v1/status", &known, "").status, 200);
    assert_eq!(served.unix().ask("GET", "/api/v1/status", &[("host", "evil.example")], "").status, 200);
}

#[test]
fn requests_of_foreign_pages_are_refused() {
    let served = Served::writable(fake());
    let authorization = format!("Bearer {TOKEN}");
    let ask = |origin: &str, host: &str| {
        let headers = [("host", host), ("origin", origin), ("authorization", &authorization)];
        served.tcp().ask("POST", "/api/v1/reload", &headers, "").status
    };
    for origin in
        ["null", "", "http://evil.example", "http://localhost:1", "http://localhost", "localhost:9901"]
    {
        assert_eq!(ask(origin, "localhost:9901"), 403, "{origin}");
    }
    assert_untouched(&served);
    assert_eq!(ask("http://LOCALHOST:9901", "localhost:9901"), 200);
    assert_eq!(ask("http://[::1]:9901", "[::1]:9901"), 200);
}

#[test]
fn the_page_and_every_answer_carry_what_browsers_must_know() {
    let served = Served::new(fake());
    for target in ["/", "/api/v1/status", "/nowhere", "/api/v1/status?x=1"] {
        let answer = served.tcp().get(target);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{target}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
