//! Small guests for tests, written in WebAssembly text and made components here: no tool beyond cargo is needed. Good ones and
//! bad ones (loop, hog, recursion, trap, liar, flood, spy). Not part of the node: behind the feature `testing`.
//!
//! What a hook returns is laid out by hand: a pointer to `result<…>` in zeroed memory is "ok, all fields empty", which for a routing
//! is `drop` without a code, and for an IVR command "nothing to play, ask again".

use crate::engine::{Engine, code_digest, content_hash};
use crate::module::{Module, wrap};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Bodies of a guest's functions. `$out` is a zeroed result, `$in` the request, `$hooks` counts the hooks of this instance, `$i` is free.
#[derive(Clone, Debug)]
pub struct Guest {
    pub imports: String,
    /// Anything at the module's top level: functions, memories, globals, a start function.
    pub module: String,
    pub memory: String,
    pub new_call: String,
    pub get_ivr_command: String,
    pub call_event: String,
    /// A guest without it exports no notifications.
    pub notify: Option<String>,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            imports: String::new(),
            module: String::new(),
            memory: "(memory (export \"memory\") 2)".into(),
            new_call: String::new(),
            get_ivr_command: String::new(),
            call_event: String::new(),
            notify: None,
        }
    }
}

/// Where a guest may keep things: above the result, below the heap.
pub const SCRATCH: u32 = 4096;

/// Text that makes the routing `drop` with a SIP code, which is on the stack as i32.
const DROP_WITH: &str = "(func $drop_with (param $code i32)
    (i32.store8 (i32.add (global.get $out) (i32.const 16)) (i32.const 1))
    (i32.store8 (i32.add (global.get $out) (i32.const 20)) (i32.const 11))
    (i32.store16 (i32.add (global.get $out) (i32.const 24)) (local.get $code)))";

impl Guest {
    /// Every hook with this body.
    pub fn each(body: &str) -> Guest {
        Guest { new_call: body.into(), get_ivr_command: body.into(), call_event: body.into(), ..Guest::default() }
    }

    /// Refuses calls with this code.
    pub fn dropping(code: u16) -> Guest {
        Guest {
            new_call: format!("(call $drop_with (i32.const {code}))"),
            call_event: format!("(call $drop_with (i32.const {code}))"),
            ..Guest::default()
        }
    }

    /// Refuses with 400 and the number of hooks and notifications this instance has had, so that a test sees whether it is a fresh one.
    pub fn counting() -> Guest {
        let body = "(call $drop_with (i32.add (i32.const 400) (global.get $hooks)))";
        Guest { new_call: body.into(), call_event: body.into(), notify: Some(String::new()), ..Guest::default() }
    }

    /// The WebAssembly text of the core module.
    pub fn text(&self) -> String {
        let hook = |name: &str, body: &str| {
            format!(
                "(func (export \"hookswitch:call/handler@0.1.0#{name}\") (param $in i32) (result i32) (local $i i32)
                   (global.set $hooks (i32.add (global.get $hooks) (i32.const 1)))
                   (memory.fill (global.get $out) (i32.const 0) (i32.const 1024))
                   {body}
                   (global.get $out))"
            )
        };
        let notify = self.notify.as_ref().map_or_else(String::new, |body| {
            format!(
                "(func (export \"hookswitch:call/notifications@0.1.0#notify\") (param $in i32)
                   (global.set $hooks (i32.add (global.get $hooks) (i32.const 1)))
                   {body})"
            )
        });
        format!(
            "(module
               {imports}
               {memory}
               (global $out i32 (i32.const 1024))
               (global $hooks (mut i32) (i32.const 0))
               (global $heap (mut i32) (i32.const 16384))
               {DROP_WITH}
               {module}
               (func (export \"cabi_realloc\") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
                 (local $at i32)
                 (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                 (global.set $heap (i32.add (local.get $at) (local.get $len)))
                 ;; Requests of tests are small; the heap starts again when it is half full.
                 (if (i32.gt_u (global.get $heap) (i32.const 98304)) (then (global.set $heap (i32.const 16384))))
                 (local.get $at))
               {new_call}
               {get_ivr_command}
               {call_event}
               {notify}
             )",
            imports = self.imports,
            memory = self.memory,
            module = self.module,
            new_call = hook("new-call", &self.new_call),
            get_ivr_command = hook("get-ivr-command", &self.get_ivr_command),
            call_event = hook("call-event", &self.call_event),
        )
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).unwrap_or_else(|e| panic!("{e}"));
        let mut resolve = Resolve::default();
        resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).expect("the WIT parses");
        let optional = if self.notify.is_some() { "export hookswitch:call/notifications@0.1.0;" } else { "" };
        let world = format!(
            "package test:guest; world guest {{ include hookswitch:call/node-imports@0.1.0; export hookswitch:call/handler@0.1.0; {optional} }}"
        );
        let test = resolve.push_str("guest.wit", &world).expect("the world resolves");
        let world = resolve.select_world(&[test], Some("guest")).expect("the world exists");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the world fits the module");
        ComponentEncoder::default().validate(true).module(&module).and_then(|mut e| e.encode()).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The component, compiled here and loaded.
    pub fn load(&self, engine: &Engine) -> Module {
        let component = self.component();
        let code = engine.compile(&component).expect("test guests compile");
        let hash = content_hash(&component);
        let digest = code_digest(engine.compatibility(), &hash, &code);
        engine.load(&wrap(engine.compatibility(), &hash, &code), &digest).expect("test guests load")
    }
}

/// Never returns.
pub fn looping() -> Guest {
    Guest::each("(loop $again (br $again))")
}

/// Traps.
pub fn trapping() -> Guest {
    Guest { module: "(func $broken_on_purpose (unreachable))".into(), ..Guest::each("(call $broken_on_purpose)") }
}

/// Calls itself without end.
pub fn recursing() -> Guest {
    Guest {
        module: "(func $deeper (param i32) (result i32) (i32.add (local.get 0) (call $deeper (i32.add (local.get 0) (i32.const 1)))))"
            .into(),
        ..Guest::each("(drop (call $deeper (i32.const 0)))")
    }
}

/// Takes memory in two memories by turns, until one is refused; says the sum in MiB by the drop code 400 + MiB.
pub fn hogging() -> Guest {
    Guest {
        module: "(memory $second 1)".into(),
        memory: "(memory $first (export \"memory\") 2)".into(),
        ..Guest::each(
            "(block $full (loop $more
               (br_if $full (i32.eq (memory.grow $first (i32.const 16)) (i32.const -1)))
               (br_if $full (i32.eq (memory.grow $second (i32.const 16)) (i32.const -1)))
               (br $more)))
             (call $drop_with (i32.add (i32.const 400)
                (i32.shr_u (i32.add (memory.size $first) (memory.size $second)) (i32.const 4))))",
        )
    }
}

/// Aborts when it is refused memory, as the allocator of a Rust guest does.
pub fn starving() -> Guest {
    Guest::each("(loop $more (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable))) (br $more))")
}

/// Answers with a drop code beyond its range.
pub fn lying() -> Guest {
    Guest::each("(call $drop_with (i32.const 65000))")
}

/// Answers with a variant case that does not exist.
pub fn babbling() -> Guest {
    Guest::each("(i32.store8 (i32.add (global.get $out) (i32.const 8)) (i32.const 200))")
}

/// Answers with a list of 100,000 pairs that all name the same 64 KiB: 13 GB once copied out.
pub fn inflating() -> Guest {
    Guest {
        memory: "(memory (export \"memory\") 32)".into(),
        // `extra` of the drop action: pointer at 52, length behind it. The pairs stand at 131072, 16 bytes each.
        ..Guest::each(
            "(local.set $i (i32.const 131072))
             (loop $next
               (i32.store (local.get $i) (i32.const 0)) (i32.store offset=4 (local.get $i) (i32.const 65536))
               (i32.store offset=8 (local.get $i) (i32.const 0)) (i32.store offset=12 (local.get $i) (i32.const 65536))
               (local.set $i (i32.add (local.get $i) (i32.const 16)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const 1731072))))
             (i32.store offset=52 (global.get $out) (i32.const 131072))
             (i32.store offset=56 (global.get $out) (i32.const 100000))",
        )
    }
}

/// Writes 10,000 log lines of 100 bytes.
pub fn flooding() -> Guest {
    Guest {
        imports: "(import \"hookswitch:call/log@0.1.0\" \"write\" (func $log (param i32 i32 i32)))".into(),
        module: format!("(data (i32.const {SCRATCH}) \"{}\")", "log line. ".repeat(10)),
        ..Guest::each(&format!(
            "(loop $next
               (call $log (i32.const 1) (i32.const {SCRATCH}) (i32.const 100))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const 10000))))"
        ))
    }
}

/// new-call fills 1 MiB with a secret; call-event looks for it in all of its memory and says 600 if it is there, 404 if not.
pub fn spying() -> Guest {
    Guest {
        memory: "(memory (export \"memory\") 17)".into(),
        new_call: "(local.set $i (i32.const 65536))
             (loop $next
               (i64.store (local.get $i) (i64.const 0x5ec2e75ec2e75ec2))
               (local.set $i (i32.add (local.get $i) (i32.const 8)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const 1114112))))"
            .into(),
        call_event: "(loop $next
               (if (i64.eq (i64.load (local.get $i)) (i64.const 0x5ec2e75ec2e75ec2)) (then (call $drop_with (i32.const 600)) (return (global.get $out))))
               (local.set $i (i32.add (local.get $i) (i32.const 8)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const 1114112))))
             (call $drop_with (i32.const 404))"
            .into(),
        ..Guest::default()
    }
}
