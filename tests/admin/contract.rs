//! What `docs/openapi.json` says is so.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate::control::api::endpoints;

use super::fake::Fake;
use super::fake::served::{Served, TOKEN};
use super::support::http::{Answer, Wire};
use super::world::fake;

fn description() -> Value {
    serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON")
}

/// One method of one path.
struct Operation {
    method: String,
    path: String,
    /// The path with every example in it, those of the query too.
    target: String,
    says: Value,
}

impl Operation {
    fn all(description: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            let shared = item.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
            for (method, says) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
                let own = says.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
                let target = with_examples(path, shared.iter().chain(&own), description);
                all.push(Self {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    target,
                    says: says.clone(),
                });
            }
        }
        all
    }

    /// The content type and the example of the body; both empty without one.
    fn body(&self, description: &Value) -> (String, String) {
        let Some(content) = self.says.pointer("/requestBody/content") else { return Default::default() };
        let (of_type, content) = content.as_object().unwrap().iter().next().unwrap();
        let example = &content["example"];
        assert_valid(description, &content["schema"], example, &self.path);
        (of_type.clone(), example.as_str().map_or_else(|| example.to_string(), str::to_owned))
    }

    fn ask(&self, wire: &mut Wire, body: &(String, String), token: Option<&str>) -> Answer {
        let token = token.map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(Some(("content-type", body.0.as_str())).filter(|_| !body.0.is_empty()));
        headers.extend(token.as_deref().map(|token| ("authorization", token)));
        wire.ask(&self.method, &self.target, &headers, &body.1)
    }

    /// The answer has a status, a type, headers and a content that were promised.
    fn assert_promised(&self, description: &Value, answer: &Answer) {
        let place = format!("{} {}: {answer:?}", self.method, self.path);
        let promised = &self.says["responses"][answer.status.to_string()];
        let promised = promised.get("$ref").map_or(promised, |reference| {
            description.pointer(&reference.as_str().unwrap()[1..]).expect("it is described")
        });
        assert!(promised.is_object(), "a status that is not promised: {place}");
        let of_type = answer.header("content-type");
        let content = &promised["content"][of_type];
        assert!(content.is_object(), "a content type that is not promised: {place}");
        if of_type == "application/x-ndjson" {
            assert!(answer.body.ends_with('\n'), "{place}");
            for line in answer.body.lines() {
                assert_valid(description, &content["schema"], &serde_json::from_str(line).unwrap(), &place);
            }
        } else {
            let is_json = of_type == "application/json";
            let value = if is_json { answer.json() } else { json!(answer.body) };
            assert_valid(description, &content["schema"], &value, &place);
        }
        for (name, header) in promised["headers"].as_object().into_iter().flatten() {
            assert_valid(description, &header["schema"], &json!(answer.header(name)), &place);
        }
    }
}

/// The path with the examples of its parameters, and a query of the others.
fn with_examples<'p>(path: &str, parameters: impl Iterator<Item = &'p Value>, description: &Value) -> String {
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let example = &parameter["example"];
        assert_valid(description, &parameter["schema"], example, path);
        let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        match parameter["in"].as_str().unwrap() {
            "path" => target = target.replace(&format!("{{{name}}}"), &example),
            "query" => query.push(format!("{name}={}", example.replace('/', "%2F"))),
            other => panic!("a parameter in {other}"),
        }
    }
    assert!(!target.contains('{'), "a parameter of {path} is not described");
    if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
}

fn assert_valid(description: &Value, schema: &Value, value: &Value, place: &str) {
    let mut whole = schema.as_object().expect("a schema").clone();
    whole.insert("components".to_owned(), description["components"].clone());
    let validator = jsonschema::validator_for(&Value::Object(whole)).expect("a schema");
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{place}\n{errors:#?}\n{value}");
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described: BTreeSet<(String, String)> =
        Operation::all(&description()).into_iter().map(|it| (it.method, it.path)).collect();
    let routes: BTreeSet<(String, String)> =
        endpoints::<Fake>().into_iter().map(|(method, path)| (method.to_string(), path.to_owned())).collect();
    assert_eq!(described, routes);
}

#[test]
fn every_example_is_answered_as_described() {
    let description = description();
    let served = Served::writable(fake());
    for operation in Operation::all(&description) {
        let body = operation.body(&description);
        for answer in [
            operation.ask(&mut served.unix(), &body, None),
            operation.ask(&mut served.tcp(), &body, Some(TOKEN)),
        ] {
            assert_eq!(answer.status, 200, "{} {}: {answer:?}", operation.method, operation.path);
            operation.assert_promised(&description, &answer);
        }
    }
    let changes = served.fake.changes();
    for made in [
        "reload Some(60s)",
        "confirm",
        "roll back",
        "rebalance web Some(5)",
        "state web/alpha Drain",
        "weight web/alpha 5",
        "log level DEBUG",
    ] {
        assert_eq!(changes.iter().filter(|change| *change == made).count(), 2, "{made}: {changes:#?}");
    }
    assert_eq!(changes.iter().filter(|change| change.starts_with("kill")).count(), 2, "{changes:#?}");
}

#[test]
fn a_body_that_may_be_left_out_may() {
    let description = description();
    let served = Served::new(fake());
    let optional = |it: &Operation| it.says.pointer("/requestBody/required") == Some(&Value::Bool(false));
    let operations: Vec<Operation> = Operation::all(&description).into_iter().filter(optional).collect();
    assert!(operations.len() >= 4);
    for operation in operations {
        let answer = operation.ask(&mut served.unix(), &(String::new(), String::new()), None);
        assert_eq!(answer.status, 200, "{}: {answer:?}", operation.path);
        operation.assert_promised(&description, &answer);
    }
}

#[test]
fn every_body_with_a_field_too_many_is_refused_as_described() {
    let description = description();
    let served = Served::new(fake());
    for operation in Operation::all(&description) {
        let (of_type, example) = operation.body(&description);
        if of_type != "application/json" {
            continue;
        }
        let mut value: Value = serde_json::from_str(&example).unwrap();
        value.as_object_mut().unwrap().insert("colour".to_owned(), json!("red"));
        let answer = operation.ask(&mut served.unix(), &(of_type, value.to_string()), None);
        assert_eq!(answer.status, 400, "{}: {answer:?}", operation.path);
        assert!(answer.refusal().contains("colour"), "{}: {answer:?}", operation.path);
        operation.assert_promised(&description, &answer);
    }
    assert_eq!(served.fake.changes(), [""; 0]);
}

#[test]
fn what_needs_rights_is_refused_without_them_as_described() {
    let description = description();
    let (reading, writing) = (Served::new(fake()), Served::writable(fake()));
    let others = Served::with(fake(), |admin| admin.http = Some("0.0.0.0:0".parse().unwrap()));
    for operation in Operation::all(&description) {
        let body = operation.body(&description);
        let statuses = [
            operation.ask(&mut reading.tcp(), &body, Some(TOKEN)),
            operation.ask(&mut writing.tcp(), &body, None),
            operation.ask(&mut writing.tcp(), &body, Some("not-the-token-at-all")),
            operation.ask(&mut others.tcp(), &body, None),
        ]
        .map(|answer| {
            if answer.status != 401 || operation.says["security"] != json!([]) {
                operation.assert_promised(&description, &answer);
            }
            answer.status
        });
        let is_free = operation.says["security"] == json!([]);
        let expected = match (operation.method.as_str(), is_free) {
            ("GET", true) => [200, 200, 401, 200],
            ("GET", false) => [200, 200, 401, 401],
            _ => [403, 401, 401, 403],
        };
        assert_eq!(statuses, expected, "{} {}", operation.method, operation.path);
    }
    for served in [&reading, &writing, &others] {
        assert_eq!(served.fake.changes(), [""; 0]);
    }
}

#[test]
fn a_process_that_drains_is_not_ready() {
    let description = description();
    let served = Served::new(fake());
    let ready = served.tcp().get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    served.fake.world(|world| {
        world.status.ready = false;
        world.status.phase = tidegate::control::model::Phase::Draining;
    });
    let answer = served.unix().get("/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    let operation = Operation::all(&description).into_iter().find(|it| it.path == "/readyz").unwrap();
    operation.assert_promised(&description, &answer);
    assert_eq!(served.unix().get("/healthz").status, 200);
}

/// Over TCP the state is given out again for a while, but not to who has just changed it.
#[test]
fn who_has_changed_something_sees_it_at_once() {
    let served = Served::writable(fake());
    let mut wire = served.tcp();
    let token = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", token.as_str())];
    for weight in 10..20 {
        wire.get("/api/v1/status");
        let body = format!("{{\"weight\":{weight}}}");
        let answer = wire.ask("PUT", "/api/v1/pools/web/servers/alpha/weight", &headers, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let status = wire.get("/api/v1/status").json();
        assert_eq!(status.pointer("/pools/0/servers/0/weight"), Some(&json!(weight)));
    }
}

#[test]
fn the_answer_to_the_state_says_whether_it_can_be_changed() {
    let [reading, writing] = [Served::new(fake()), Served::writable(fake())];
    assert_eq!(reading.tcp().get("/api/v1/status").header("tidegate-writes"), "off");
    assert_eq!(reading.unix().get("/api/v1/status").header("tidegate-writes"), "on");
    assert_eq!(writing.tcp().get("/api/v1/status").header("tidegate-writes"), "on");
}
