//! The contract of adapters over a WebAssembly guest: the scenarios that a script and the built-in rules pass, with the same ladders. And
//! over handlers in each language: the same menu gives the same verdicts.

use hookswitch::guest::adapter::WasmAdapter;
use hookswitch::guest::compile::{Compiler, SUBCOMMAND};
use hookswitch_call::adapter::Adapter;
use hookswitch_call::contract::Act::{Hangup, Press};
use hookswitch_call::contract::world::{self, World};
use hookswitch_call::contract::{Act, scenarios};
use hookswitch_call::{Ask, Hook, HookFailure, Notification, Verdict};
use hookswitch_tests::{guests, node};
use hookswitch_wasm::{Class, Engine, Module, Options};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Components compiled by the node's own way, which may be used as long as this lives.
struct Workshop {
    compiler: Compiler,
    _data: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        let engine = Arc::new(Engine::start(Options::default()).expect("an engine"));
        let data = tempfile::tempdir().expect("a folder");
        let program = || {
            let mut command = Command::new(node::binary());
            command.arg(SUBCOMMAND);
            Ok(command)
        };
        Workshop { compiler: Compiler::with_program(data.path(), engine, program), _data: data }
    }

    fn module(&self, component: &Path) -> (Arc<Module>, Class) {
        let component = std::fs::read(component).expect("the component was built");
        (self.compiler.compile(&component).unwrap_or_else(|error| panic!("{error}")), Class::of(component.len()))
    }
}

/// A loaded test machine may stop the thread for longer than a hook's CPU time.
fn adapter((module, class): &(Arc<Module>, Class)) -> WasmAdapter {
    WasmAdapter::new(module.clone()).cpu(Duration::from_secs(5)).class(*class)
}

/// Notes what is answered, and gives the caller a header.
struct Noting {
    adapter: WasmAdapter,
    header: Option<&'static str>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Adapter for Noting {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        let mut ask = ask.clone();
        if let (Hook::NewCall(call), Some(address)) = (&mut ask.hook, self.header) {
            call.x_headers.push(("x-dest".into(), address.into()));
        }
        let answer = self.adapter.answer(&ask);
        self.said.lock().expect("nobody panics with it").push(format!("{}: {answer:?}", ask.hook.name()));
        answer
    }

    fn notify(&mut self, notification: &Notification) {
        self.adapter.notify(notification);
    }
}

/// A number of the menu, the header `X-Dest`, and what the caller does.
type Story = (&'static str, Option<&'static str>, &'static [Act]);

const BOB: Option<&str> = Some("sip:bob@192.0.2.50");
const STORIES: [Story; 13] = [
    ("ivr", None, &[]),
    ("ivr", None, &[Press(3000, '1'), Press(20_000, '#')]),
    ("ivr", None, &[Press(3000, '1'), Hangup(20_000)]),
    ("ivr", None, &[Press(3000, '2'), Press(20_000, '#'), Press(23_000, '0')]),
    ("ivr", None, &[Press(3000, '3')]),
    ("ivr", BOB, &[Press(3000, '3')]),
    ("ivr", None, &[Press(3000, '0'), Press(6000, '7'), Press(9000, '8'), Press(12_000, '9')]),
    ("voicemail", None, &[Press(9000, '#')]),
    ("echo", None, &[Press(9000, '5')]),
    ("bridge", None, &[]),
    ("bridge", BOB, &[Act::Cancel(5000)]),
    ("reject", None, &[]),
    ("nobody", None, &[]),
];

/// What the handler answers in a story, and what comes of it on the wire.
fn told(module: &(Arc<Module>, Class), (number, header, acts): &Story) -> (Vec<String>, String) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let noting = Noting { adapter: adapter(module), header: *header, said: said.clone() };
    let mut world = World::with(world::configuration(world::tenant()), world::switch_config(3), Box::new(noting));
    for name in ["welcome-menu", "leave-message", "echo", "no-destination", "invalid", "thanks", "goodbye"] {
        world.files.insert(format!("{name}.wav"), Duration::from_secs(1));
    }
    let call = world.call(number);
    for act in *acts {
        let (Press(at, _) | Hangup(at) | Act::Cancel(at)) = *act;
        world.run_to(at);
        match *act {
            // Nobody hears a key that is pressed after the end.
            Press(..) if world.live_legs().is_empty() => {}
            Press(_, digit) => world.press(digit),
            Hangup(_) => world.hangup(call),
            Act::Cancel(_) => world.cancel(call),
        }
    }
    world.run_to(120_000);
    let said = said.lock().expect("nobody panics with it").clone();
    (said, world.ladder(&[]))
}

#[test]
fn the_menu_says_the_same_in_every_language() {
    let workshop = Workshop::new();
    let rust = workshop.module(&node::component("menu"));
    let expected: Vec<_> = STORIES.iter().map(|story| told(&rust, story)).collect();
    // The stories reach every part of the menu, or sameness would say little.
    let all: String = expected.iter().flat_map(|(said, _)| said).map(String::as_str).collect();
    for word in ["leave-message", "echo.wav", "Echo", "no-destination", "invalid", "Record", "Call(", "notFound", "decline", "goodbye"] {
        assert!(all.contains(word), "no answer says {word}: {all}");
    }
    for language in ["menu-js", "menu-c", "menu-python"] {
        let module = workshop.module(&node::component(language));
        for (story, expected) in STORIES.iter().zip(&expected) {
            let (said, ladder) = told(&module, story);
            assert_eq!(said, expected.0, "{language}: {story:?}");
            assert_eq!(ladder, expected.1, "{language}: {story:?}");
        }
    }
}

#[test]
fn a_wasm_guest_keeps_the_contract() {
    let workshop = Workshop::new();
    let module = workshop.module(&guests::component("contract", 0));
    for scenario in scenarios() {
        let adapter = adapter(&module);
        scenario.run(Box::new(adapter)).unwrap_or_else(|difference| panic!("{difference}"));
    }
}
