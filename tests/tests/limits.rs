//! `docs/limits.md`: every maximum of the node in one table, made of the files where they stand. `HOOKSWITCH_UPDATE=1 cargo test -p
//! hookswitch-tests --test limits` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

/// The files, and what their limits are about.
const FILES: [(&str, &str); 5] = [
    ("node/wasm/src/limits.rs", "A handler: what its component may be, and what an instance may use and do"),
    ("node/src/guest/limits.rs", "Handlers on a node: queues, logs, orders, what an answer may hold, compiling"),
    ("node/call/src/limits.rs", "A session"),
    ("node/src/limits.rs", "The node: threads, recordings, prompts, posts, requests, store, settings, connections"),
    ("node/proto/src/limits.rs", "SIP, SDP, RTP"),
];

const HEAD: &str = "# Limits\n\nEvery maximum of the node, its value, its reason, and what happens at it. Those that a handler can meet are named in its error \
(`HostError::Limit`) or in the failure of its hook, and in its tenant's log: `hookswitch guest logs`.\n\nMade from the `limits.rs` files by \
`HOOKSWITCH_UPDATE=1 cargo test -p hookswitch-tests --test limits`; do not edit.\n";

struct Limit {
    name: String,
    value: String,
    says: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Constants with the comment before them; one without a comment shares that of the one above.
fn limits_in(text: &str) -> Vec<Limit> {
    let (mut limits, mut says, mut fresh) = (Vec::<Limit>::new(), String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("///") {
            if !std::mem::replace(&mut fresh, true) {
                says.clear();
            }
            says.push_str(comment);
            continue;
        }
        fresh = false;
        let Some(constant) = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("const ")) else { continue };
        let mut constant = constant.to_owned();
        while !constant.ends_with(';') {
            constant.push_str(lines.next().expect("a constant ends").trim());
        }
        let (name, rest) = constant.split_once(':').expect("a constant has a type");
        let (_, value) = rest.trim_end_matches(';').split_once(" = ").expect("and a value");
        limits.push(Limit { name: name.into(), value: shown(value), says: says.trim().to_owned() });
    }
    limits
}

/// `4 << 20` is 4 MiB, `Duration::from_secs(4 * 3600)` 4 h. What is another limit, or not a number, is shown as it is written.
fn shown(value: &str) -> String {
    for (call, unit) in [("from_secs(", 1000), ("from_millis(", 1)] {
        let inner = value.strip_prefix("Duration::").and_then(|v| v.strip_prefix(call)).and_then(|v| v.strip_suffix(')'));
        if let Some(ms) = inner.and_then(product) {
            return time(ms * unit);
        }
    }
    match value.split_once(" << ") {
        Some((n, "10")) => format!("{n} KiB"),
        Some((n, "20")) => format!("{n} MiB"),
        Some((n, "30")) => format!("{n} GiB"),
        _ => product(value).map_or_else(|| format!("`{}`", value.trim_start_matches("hookswitch_")), grouped),
    }
}

fn product(text: &str) -> Option<u64> {
    text.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().ok()).product()
}

fn time(ms: u64) -> String {
    for (unit, name) in [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) && (unit != 86_400_000 || ms > unit) {
            return format!("{} {name}", grouped(ms / unit));
        }
    }
    format!("{} ms", grouped(ms))
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn document() -> String {
    let mut out = HEAD.to_owned();
    for (file, about) in FILES {
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        out.push_str(&format!(
            "\n## {about}\n\n`{file}`\n\n| limit | value | what it bounds, why, and what happens at it |\n| --- | --- | --- |\n"
        ));
        for Limit { name, value, says } in limits_in(&text) {
            out.push_str(&format!("| {name} | {value} | {} |\n", says.replace('|', "\\|")));
        }
    }
    out
}

#[test]
fn every_limit_is_in_the_document() {
    let path = root().join("docs/limits.md");
    let expected = document();
    if std::env::var_os("HOOKSWITCH_UPDATE").is_some() {
        fs::write(&path, expected).expect("docs/ can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/limits.md is not what the limits.rs files say: HOOKSWITCH_UPDATE=1 cargo test -p hookswitch-tests --test limits"
    );
}

#[test]
fn every_limit_has_a_reason() {
    for (file, _) in FILES {
        let text = fs::read_to_string(root().join(file)).expect("it is there");
        let bare: Vec<String> = limits_in(&text).into_iter().filter(|limit| limit.says.is_empty()).map(|limit| limit.name).collect();
        assert!(bare.is_empty(), "{file}: {bare:?}");
    }
}

#[test]
fn values_are_shown_as_people_read_them() {
    for (value, expected) in [
        ("4 << 20", "4 MiB"),
        ("16_384", "16,384"),
        ("Duration::from_secs(4 * 3600)", "4 h"),
        ("Duration::from_secs(24 * 3600)", "24 h"),
        ("Duration::from_secs(7 * 24 * 3600)", "7 days"),
        ("Duration::from_millis(250)", "250 ms"),
        ("Duration::from_secs(90)", "90 s"),
        ("SESSION_DURATION", "`SESSION_DURATION`"),
        ("512", "512"),
    ] {
        assert_eq!(shown(value), expected, "{value}");
    }
}
