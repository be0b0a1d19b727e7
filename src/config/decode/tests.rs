use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::*;
use crate::config::load::load_str;
use crate::config::report::Span;
use crate::units::{Size, Time};

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    threads: u16,
    debug: bool,
    ratio: f64,
    name: Option<Located<String>>,
    servers: Vec<Located<Server>>,
    balance: Balance,
    timeout: Option<Time>,
    size: Size,
    groups: BTreeMap<String, Group>,
    tags: Vec<String>,
    codes: BTreeMap<u16, String>,
    pair: Option<(u8, u8)>,
    secret: Option<Short>,
    later: Option<Later>,
    filters: Vec<Raw>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Group {
    address: String,
    #[serde(default)]
    weight: Option<std::num::NonZeroU16>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Balance {
    #[default]
    RoundRobin,
    Hash(Key),
    Sticky {
        ttl: Time,
    },
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Header(String),
    Client,
}

/// Text or a mapping, through a hand-written visitor.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Server {
    address: String,
    weight: u16,
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Server, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            address: String,
            weight: u16,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Server;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a mapping with address and weight")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Server, E> {
                if !text.contains(':') {
                    return Err(E::custom(format!("`{text}` has no port\nwrite HOST:PORT")));
                }
                Ok(Server { address: text.into(), weight: 1 })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Server, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Server { address: full.address, weight: full.weight })
            }
        }
        d.deserialize_any(V)
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Short(String);

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Short, D::Error> {
        let text = String::deserialize(d)?;
        if text.len() > 6 {
            let part: String = text.chars().take(5).collect();
            return Err(D::Error::custom(format!("`{text}` is too long, {part} would do\nnot {text}")));
        }
        Ok(Short(text))
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Later;

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Later, D::Error> {
        serde::de::IgnoredAny::deserialize(d)?;
        Err(D::Error::custom("not supported yet\nremove it"))
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "N" => Some("7".into()),
        "LONG" => Some("confidential".into()),
        "PIN" => Some("pin1".into()),
        _ => None,
    }
}

fn read_text(text: &str) -> (Config, Report, Document) {
    let mut report = Report::new();
    let doc = load_str("t.yaml", text, &env, &mut report);
    let config = decode(&doc, &doc.root, &mut report);
    (config, report, doc)
}

fn good(text: &str) -> Config {
    let (config, report, doc) = read_text(text);
    assert!(report.is_empty(), "{}", report.render_text(&doc.sources));
    config
}

/// Each problem as `line:column code message`, in the order of the file.
fn problems(text: &str) -> Vec<String> {
    let (_, report, _) = read_text(text);
    let mut found: Vec<_> = report.diagnostics().iter().collect();
    found.sort_by_key(|d| (d.span.line, d.span.column));
    found
        .iter()
        .map(|d| format!("{}:{} {} {}", d.span.line, d.span.column, d.code.as_str(), d.message))
        .collect()
}

fn helps(text: &str) -> Vec<Option<String>> {
    read_text(text).1.diagnostics().iter().map(|d| d.help.clone()).collect()
}

#[test]
fn every_shape_is_read() {
    let config = good(
        "threads: 4\ndebug: true\nratio: 1\nname: edge\nservers:\n  - a:1\n  - { address: b, weight: 2 }\n\
         balance: { hash: { header: x-user } }\ntimeout: 5s\nsize: 64KB\ngroups: { x: { address: y, weight: 3 } }\n\
         tags: [a, 1, true, 1.50]\ncodes: { 200: ok, 404: no }\npair: [1, 2]\nsecret: s\nfilters:\n  - headers: { a: 1 }\n",
    );
    assert_eq!((config.threads, config.debug, config.ratio), (4, true, 1.0));
    assert_eq!(config.servers[1].weight, 2);
    assert_eq!(config.balance, Balance::Hash(Key::Header("x-user".into())));
    assert_eq!((config.timeout, config.size), (Some(Time::secs(5)), Size::kb(64)));
    assert_eq!(config.tags, ["a", "1", "true", "1.50"]);
    assert_eq!(config.codes[&404], "no");
    assert_eq!(config.pair, Some((1, 2)));
    let at = |span: Span| (span.line, span.column, span.len);
    assert_eq!(at(config.name.unwrap().span), (4, 7, 4));
    assert_eq!(at(config.servers[0].span), (6, 5, 3));
}

#[test]
fn enums_as_words_and_as_mappings() {
    for (text, balance) in [
        ("round_robin", Balance::RoundRobin),
        ("{ round_robin: {} }", Balance::RoundRobin),
        ("{ round_robin: }", Balance::RoundRobin),
        ("{ hash: client }", Balance::Hash(Key::Client)),
        ("{ sticky: { ttl: 1h } }", Balance::Sticky { ttl: Time::secs(3600) }),
    ] {
        assert_eq!(good(&format!("balance: {text}\n")).balance, balance, "{text}");
    }
    assert_eq!(
        problems("balance: round-robin\n"),
        ["1:10 E023 \"round-robin\" is not a choice for \"balance\"; did you mean \"round_robin\"?"]
    );
    assert_eq!(
        problems("balance: { hsh: client }\n"),
        ["1:12 E023 \"hsh\" is not a choice for \"balance\"; did you mean \"hash\"?"]
    );
    assert_eq!(
        problems("balance: { hash: client, sticky: { ttl: 1s } }\n"),
        ["1:26 E040 \"balance\" takes one choice, and \"sticky\" is a second"]
    );
    assert_eq!(problems("balance: { round_robin: 5 }\n"), ["1:25 E021 \"round_robin\" takes no settings"]);
    assert_eq!(problems("balance: { sticky: { ttl: 5 } }\n"), ["1:27 E022 \"ttl\": a time needs a unit"]);
    assert_eq!(problems("balance: sticky\n"), ["1:1 E024 \"balance\" lacks the key \"ttl\""]);
    assert_eq!(
        problems("balance: { hash: { header: [] } }\n"),
        ["1:28 E021 \"header\" expects text, found a list"]
    );
}

#[test]
fn nothing_is_absent_for_options_and_collections_only() {
    let config = good("name:\nservers:\ngroups:\nfilters: ~\n");
    assert_eq!(config, Config::default());
    assert_eq!(
        problems("threads:\n"),
        ["1:1 E021 \"threads\" expects a number from 0 to 65535, found nothing"]
    );
    assert_eq!(problems("groups:\n  a:\n"), ["2:3 E024 \"a\" lacks the key \"address\""]);
}

#[test]
fn every_problem_is_found_in_one_go() {
    let found = problems(
        "thread: 4\ndebug: yes\nratio: \"1.5\"\nname: [x]\nservers:\n  - nope\n  - { address: a, wieght: 2 }\n  - 5\n\
         groups:\n  a: { addres: x }\n  b: { weight: 0, address: y }\n  c: 5\n  d: {}\ntimeout: 30\nsize: 10XB\n\
         pair: [1, 2, 3]\nlater: { x: 1 }\ncodes: { ok: x }\n",
    );
    assert_eq!(
        found,
        [
            "1:1 E020 unknown key \"thread\"; did you mean \"threads\"?",
            "2:8 E021 \"debug\" expects true or false, found the text \"yes\"",
            "3:8 E021 \"ratio\" expects a number, found the text \"1.5\"",
            "4:7 E021 \"name\" expects text, found a list",
            "6:5 E022 an item of \"servers\": `nope` has no port",
            "7:19 E020 unknown key \"wieght\" in \"servers\"; did you mean \"weight\"?",
            "8:5 E021 an item of \"servers\" expects an address, or a mapping with address and weight, found the number 5",
            "10:8 E020 unknown key \"addres\" in \"a\"; did you mean \"address\"?",
            "11:16 E022 \"weight\" expects a number from 1 to 65535, found the number 0",
            "12:6 E021 \"c\" expects a mapping of keys, found the number 5",
            "13:3 E024 \"d\" lacks the key \"address\"",
            "14:10 E022 \"timeout\": a time needs a unit",
            "15:7 E022 \"size\": \"10XB\" is not a size",
            "16:7 E022 \"pair\" expects fewer items, found a list of 3",
            "17:1 E025 \"later\" is not supported yet",
            "18:10 E021 \"ok\" expects a number from 0 to 65535, found the text \"ok\"",
        ]
    );
}

#[test]
fn help_says_what_to_write() {
    assert_eq!(helps("debug: yes\n"), [Some("write true or false".into())]);
    assert_eq!(helps("threads: \"4\"\n"), [Some("remove the quotes".into())]);
    assert_eq!(helps("timeout: 30\n"), [Some("write the unit: 30s or 30ms".into())]);
    assert_eq!(
        helps("tags: a\n"),
        [Some("write a list: [ ... ], or one item on each line after a dash".into())]
    );
    assert_eq!(helps("later: 1\n"), [Some("remove it".into())]);
    assert_eq!(helps("groups: { a: { x: 1 } }\n")[0].as_deref(), Some("known keys here: address, weight"));
}

#[test]
fn a_list_is_not_taken_for_a_struct() {
    assert_eq!(
        problems("groups: { a: [x, 1] }\n"),
        ["1:14 E021 \"a\" expects a mapping of keys, found a list"]
    );
}

#[test]
fn what_had_a_problem_is_left_out_and_the_rest_is_kept() {
    let (config, _, _) = read_text(
        "threads: 9\nservers: [a:1, nope, b:2]\ngroups: { a: { address: [] }, b: { address: x } }\n",
    );
    assert_eq!(config.threads, 9);
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.groups.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn too_many_problems_end_the_reading() {
    let text: String = (0..500).map(|n| format!("zz{n}: 1\n")).collect();
    let (_, report, _) = read_text(&text);
    assert_eq!(report.diagnostics().len(), MOST_PROBLEMS + 1);
    assert_eq!(report.diagnostics().last().unwrap().code, Code::TooManyProblems);
}

#[test]
fn expanded_variables_are_typed_and_never_told() {
    let config = good("threads: ${N}\nratio: \"${N}\"\ntags: [\"${N}\"]\n");
    assert_eq!((config.threads, config.ratio, config.tags[0].as_str()), (7, 7.0, "7"));
    for text in [
        "threads: ${LONG}\n",
        "balance: ${LONG}\n",
        "timeout: ${LONG}\n",
        "servers: [\"${LONG}\", { address: \"${LONG}\" }]\n",
        "secret: ${LONG}\n",
        "secret: confidential\n",
        "threads: ${PIN}\nsize: x${PIN}\n",
        "groups: { a: \"${PIN}\" }\n",
    ] {
        let (_, report, doc) = read_text(text);
        assert!(report.has_errors(), "{text}");
        let json = report.render_json(&doc.sources).to_string();
        let shown = report.render_text(&doc.sources) + &json;
        for value in ["confidential", "confi", "pin1"] {
            assert!(!shown.contains(value), "{value} is told for {text}: {shown}");
        }
    }
    assert_eq!(
        problems("threads: ${PIN}\n"),
        ["1:10 E021 \"threads\" expects a number from 0 to 65535, found the text \"${PIN}\""]
    );
}

#[test]
fn raw_settings_are_read_later() {
    let (config, mut report, doc) = read_text(
        "filters:\n  - group: { address: x, weight: no }\n  - group: { address: y }\n  - a: 1\n    b: 2\n",
    );
    assert!(report.is_empty());
    let (key, span, settings) = config.filters[0].as_single_key_map().unwrap();
    assert_eq!((key, span.line, span.column), ("group", 2, 5));
    assert_eq!(decode_raw::<Group>(&doc, &settings, &mut report), None);
    assert_eq!(report.diagnostics()[0].span.column, 34);
    let (_, _, settings) = config.filters[1].as_single_key_map().unwrap();
    assert_eq!(
        decode_raw::<Group>(&doc, &settings, &mut report),
        Some(Group { address: "y".into(), weight: None })
    );
    assert!(config.filters[2].as_single_key_map().is_none());
}

#[test]
fn raw_prints_without_secrets_and_compares_by_data() {
    let print = |text: &str| serde_json::to_string(&good(text).filters).unwrap();
    assert_eq!(
        print("filters: [{ a: { secret: x1, token: [t], n: 5, v: \"${LONG}\", q: \"5\", e: ~ } }]\n"),
        r#"[{"a":{"secret":"****","token":["****"],"n":5,"v":"${LONG}","q":"5","e":null}}]"#
    );
    assert_eq!(good("filters: [{ a: x }]").filters, good("\n\nfilters:\n  - a: \"x\"\n").filters);
    assert_ne!(good("filters: [{ a: x }]").filters, good("filters: [{ a: y }]").filters);
}

#[test]
fn other_deserializers_work_without_places() {
    let config: Config =
        serde_json::from_str(r#"{"name":"n","servers":["a:1"],"filters":[{"h":{"x":[1,true]}}]}"#).unwrap();
    assert_eq!(config.name, Some(Located::from("n".to_owned())));
    assert!(!config.servers[0].span.is_known());
    assert_eq!(serde_json::to_string(&config.filters).unwrap(), r#"[{"h":{"x":[1,true]}}]"#);
}

/// One value or a list, as a visitor that hands a bare scalar on.
#[derive(Debug)]
struct One(Located<String>);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<One, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = One;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<One, E> {
                Located::deserialize(serde::de::value::StrDeserializer::new(text)).map(One)
            }
        }
        d.deserialize_any(V)
    }
}

#[test]
fn a_place_survives_a_visitor_that_hands_a_scalar_on() {
    let mut report = Report::new();
    let doc = load_str("t.yaml", "a: text\n", &env, &mut report);
    let raw = Raw::from(doc.root.get("a").unwrap().clone());
    let one: One = decode_raw(&doc, &raw, &mut report).unwrap();
    assert_eq!((one.0.span.line, one.0.span.column, one.0.as_str()), (1, 4, "text"));
}
