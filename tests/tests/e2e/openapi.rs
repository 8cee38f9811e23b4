//! Whether the node does what `/openapi.json` says, judged by a tool that does not know the node: Schemathesis makes requests from the
//! document, good and bad, and compares the answers with it.

use hookswitch_tests::node::{Node, TOKEN, schemathesis};
use std::fs;
use std::process::{Command, Stdio};

/// Each run: long enough for every operation to see its edge cases, short enough for every run of the tests.
const SECONDS: &str = "35";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,ignored_auth,unsupported_method";

#[test]
fn ic_008_the_api_is_what_its_document_says() {
    let node = Node::demo();
    let token = node.json(&["tenant", "token", "demo.localhost", "schemathesis", "--json"])["token"].as_str().expect("a token").to_owned();
    judge(&node, "demo.localhost", &token, "^/[{h]");
    // The operator's part, about another tenant: the demo's would be removed on the way.
    node.cli(&["tenant", "put", "other.localhost", "--number", "other"]).ok();
    judge(&node, "other.localhost", TOKEN, "^/(admin|metrics)");
    // The node is as well as before.
    node.phone("ivr").seconds("2").run().ok();
}

/// `paths`: which of the document's, as a regular expression.
fn judge(node: &Node, domain: &str, token: &str, paths: &str) {
    // A domain that was made up would be refused before anything else is looked at.
    let config = node.file("schemathesis.toml");
    fs::write(&config, format!("[parameters]\n\"path.domain\" = \"{domain}\"\n")).expect("a file");
    let output = Command::new(schemathesis())
        .args(["--config-file", config.to_str().expect("our paths are UTF-8"), "run"])
        .arg(format!("http://{}/openapi.json", node.api()))
        .args(["--header", &format!("Authorization: Bearer {token}"), "--include-path-regex", paths, "--checks", CHECKS])
        // One worker: with more, CPython 3.11 fails now and then in its own parser.
        .args(["--phases", "coverage,fuzzing", "--max-time", SECONDS, "--workers", "1", "--seed", "20261125"])
        .args(["--warnings", "off", "--suppress-health-check", "all", "--no-color", "--generation-database", "none"])
        .current_dir(node.folder())
        .stdin(Stdio::null())
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // `123 generated, 123 passed`.
    let made =
        said.lines().filter_map(|line| line.trim().split_once(" generated")).filter_map(|(count, _)| count.parse::<u32>().ok()).max();
    assert!(made.is_some_and(|made| made > 100), "it asked too little:\n{said}");
}
