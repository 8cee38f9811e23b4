//! A developer follows `sdk/README.md`, in each language: the commands of its code blocks are run as they stand there.

use hookswitch_tests::audio::{read_wav, sounding};
use hookswitch_tests::node::{Node, Run, binary, root};
use std::process::{Command, Stdio};

/// The blocks of this language in the section with this heading, up to the next heading.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("sdk/README.md")).expect("the manual");
    let (begin, mut inside, mut block, mut blocks) = (format!("```{language}"), false, false, Vec::<String>::new());
    for line in readme.lines() {
        match line {
            _ if !block && line.starts_with('#') => inside = line.trim_start_matches('#').trim() == heading,
            "```" => block = false,
            _ if inside && line == begin => {
                block = true;
                blocks.push(String::new());
            }
            _ if block => {
                let last = blocks.last_mut().expect("one is open");
                last.push_str(line);
                last.push('\n');
            }
            _ => {}
        }
    }
    assert!(!blocks.is_empty(), "no {language} below {heading}");
    blocks
}

/// Runs them beside a node of their own, whose address stands for the manual's. What the shell and the commands printed.
fn follow(node: &Node, commands: &str) -> Run {
    let languages = hookswitch_tests::node::languages();
    let script = commands.replace("127.0.0.1", &node.ip.to_string());
    let path = format!("{}:{}", binary().parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    let arguments = ["-euxo", "pipefail", "-c", &script];
    node.environment(&mut command);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .env("PATH", path)
        // What is downloaded or compiled once is not again.
        .env("npm_config_cache", languages.join("npm-cache"))
        .env("PIP_CACHE_DIR", languages.join("pip-cache"))
        .env("ZIG_GLOBAL_CACHE_DIR", languages.join("zig"))
        .env("CARGO_TARGET_DIR", languages.join("cargo"))
        .output()
        .expect("there is a shell");
    Run::of(&["sdk/README.md"], &output)
}

/// From `guest new` to the rollback: the call was heard, the log has its line, and the version before is active again.
fn ends_where_it_began(heading: &str) {
    let node = Node::demo();
    let run = follow(&node, &blocks(heading, "sh").concat());
    run.ok().says("alice -> node   digit 5").says("call from").says("version 1 is active");
    assert!(sounding(&read_wav(&node.file("my-line/heard.wav"))) > 1.0, "the greeting was not heard: {run}");
}

#[test]
fn the_manual_leads_a_rust_developer_to_a_call() {
    let heading = "From nothing to a call, and back";
    let [first, second] = <[String; 2]>::try_from(blocks(heading, "sh")).expect("before and after the change");
    let node = Node::demo();
    follow(&node, &first).ok().says("alice -> node   digit 5").says("version 2");
    let path = node.file("my-line/src/lib.rs");
    let source = std::fs::read_to_string(&path).expect("the handler");
    let hook = "-> Result<Ivr> {\n";
    assert!(source.contains(hook));
    let changed = source.replacen(hook, &format!("{hook}{}", blocks(heading, "rust").concat()), 1).replacen(", log}", ", Tone, log}", 1);
    std::fs::write(&path, changed).expect("written");
    let run = follow(&node, &format!("cd my-line\n{second}"));
    run.ok().says("version 3").says("call from").says("version 2 is active");
    for name in ["heard.wav", "changed.wav", "back.wav"] {
        assert!(sounding(&read_wav(&node.file(&format!("my-line/{name}")))) > 0.5, "{name}: {run}");
    }
}

#[test]
fn the_manual_leads_a_javascript_developer_to_a_call() {
    ends_where_it_began("JavaScript");
}

#[test]
fn the_manual_leads_a_python_developer_to_a_call() {
    ends_where_it_began("Python");
}

#[test]
fn the_manual_leads_a_c_developer_to_a_call() {
    ends_where_it_began("C");
}

#[test]
fn a_large_component_needs_the_operators_word() {
    let node = Node::demo();
    let python = hookswitch_tests::node::component("menu-python");
    let python = python.to_str().expect("our paths are UTF-8");
    node.cli(&["guest", "push", python, "--domain", "demo.localhost"]).fails(&["larger than 4194304 bytes"]);
    node.cli(&["tenant", "put", "demo.localhost", "--large-components", "true"]).ok();
    node.cli(&["guest", "push", python, "--domain", "demo.localhost"]).ok().says("version 2");
    // The menu of Python takes the same keys as the demo's own.
    let heard = node.file("heard.wav");
    node.phone("ivr").dtmf("7@2s").record(&heard).seconds("6").run().ok();
    assert!(sounding(&read_wav(&heard)) > 1.0);
    node.phone("reject").seconds("5").run().fails(&["603"]);
}
