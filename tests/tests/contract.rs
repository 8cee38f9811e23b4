//! The contract of adapters over a WebAssembly guest: the scenarios that a script and the built-in rules pass, with the same ladders.

use hookswitch::guest::adapter::WasmAdapter;
use hookswitch::guest::compile::{Compiler, SUBCOMMAND};
use hookswitch_call::contract::scenarios;
use hookswitch_tests::{guests, node};
use hookswitch_wasm::{Engine, Options};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_wasm_guest_keeps_the_contract() {
    let component = std::fs::read(guests::component("contract", 0)).expect("the component was just built");
    let engine = Arc::new(Engine::start(Options::default()).expect("an engine"));
    let data = tempfile::tempdir().expect("a folder");
    let program = || {
        let mut command = Command::new(node::binary());
        command.arg(SUBCOMMAND);
        Ok(command)
    };
    let compiler = Compiler::with_program(data.path(), engine, program);
    let module = compiler.compile(&component).expect("our guest compiles");
    for scenario in scenarios() {
        // A loaded test machine may stop the thread for longer than a hook's CPU time.
        let adapter = WasmAdapter::new(module.clone()).cpu(Duration::from_secs(5));
        scenario.run(Box::new(adapter)).unwrap_or_else(|difference| panic!("{difference}"));
    }
}
