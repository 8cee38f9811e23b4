//! Looks at an uploaded file before anything is done with it: is it a component, is it small and simple enough, does it export and
//! import what this node serves? Says what is wrong in words that its author can act on.

use crate::class::Class;
use crate::engine::content_hash;
use crate::limits;
use std::panic::AssertUnwindSafe;
use wasmparser::{CanonicalFunction, CanonicalOption, Encoding, Parser, Payload, Validator, WasmFeatures};
use wit_parser::decoding::DecodedWasm;
use wit_parser::{Function, Interface, InterfaceId, PackageId, Resolve, SourceMap, Type, TypeDefKind, WorldItem};

/// The package this node serves, and which versions of it: before 1.0, all of one minor number.
const PACKAGE: &str = "hookswitch:call";
const SERVED: &str = "0.1";

/// What handlers may export. The first is a must.
const EXPORTS: [&str; 4] = ["handler", "notifications", "call-identifier", "remote-call"];

/// What an acceptable component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Hex SHA-256 of the file.
    pub hash: String,
    pub bytes: usize,
    /// The interfaces it imports and exports, in full.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub core_modules: usize,
    pub memories: usize,
    pub tables: usize,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("cut short: the file ends at byte {0}, in the middle of a section")]
    Truncated(usize),
    #[error("not WebAssembly: the file does not begin with \\0asm")]
    NotWasm,
    #[error("precompiled native code is never accepted; upload the component itself")]
    Precompiled,
    #[error("a core module, not a component: make it one with `hookswitch guest build`")]
    CoreModule,
    #[error("not valid: {0}")]
    Invalid(String),
    /// Valid WebAssembly, of a kind that this node does not run.
    #[error("uses {}, which this node does not run: {}", .0.what, .0.hint)]
    Feature(Feature),
    #[error("too many {what}: {count}; the limit is {limit}")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("strings must be UTF-8, not UTF-16 or Latin-1")]
    StringEncoding,
    #[error("contains other components with code of their own: only a single component is accepted")]
    Composed,
    #[error("does not export the interface `{PACKAGE}/handler`; it exports {found}. This node serves {PACKAGE} {SERVED}.x")]
    NoHandler { found: String },
    #[error("exports `{name}`, an interface that handlers do not have; they may export {} of {PACKAGE} {SERVED}.x", EXPORTS.join(", "))]
    Export { name: String },
    #[error("exports `{name}`, but this node serves {PACKAGE} {SERVED}.x: build it against the `wit/` of this release")]
    ExportVersion { name: String },
    #[error("imports `{name}`, but this node serves {PACKAGE} {SERVED}.x: build it against the `wit/` of this release")]
    ImportVersion { name: String },
    #[error("imports `{name}`, which a handler may export and not import")]
    ImportOfExport { name: String },
    #[error(
        "imports `{name}`, but handlers get no WASI: build JavaScript and Python with `--stub-wasi`, Rust with `hookswitch guest build`; \
         it offers {offered}"
    )]
    Wasi { name: String, offered: String },
    #[error("imports `{name}`, which this node does not have; it offers {offered}")]
    Import { name: String, offered: String },
    #[error("`{name}` {how} this node's {PACKAGE} {SERVED}: build it against the `wit/` of this release")]
    Function { name: String, how: &'static str },
}

/// What a component may not use, and what its author can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub what: &'static str,
    pub hint: &'static str,
}

const OFF: &str = "switch that off in the toolchain";

/// Features that are told by name. What needs another one is only "not valid".
const REFUSED: [(WasmFeatures, Feature); 9] = [
    (
        WasmFeatures::THREADS,
        Feature { what: "threads or shared memory", hint: "a handler serves one call; switch them off in the toolchain" },
    ),
    (WasmFeatures::MEMORY64, Feature { what: "64-bit memory", hint: "build for wasm32" }),
    (
        WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
        Feature { what: "garbage collection or typed references", hint: "use a toolchain that brings its own memory management" },
    ),
    (WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS), Feature { what: "exceptions", hint: OFF }),
    (WasmFeatures::RELAXED_SIMD, Feature { what: "relaxed SIMD", hint: OFF }),
    (WasmFeatures::STACK_SWITCHING, Feature { what: "stack switching", hint: OFF }),
    (WasmFeatures::CUSTOM_PAGE_SIZES, Feature { what: "custom page sizes", hint: OFF }),
    (WasmFeatures::WIDE_ARITHMETIC, Feature { what: "wide arithmetic", hint: OFF }),
    (WasmFeatures::CM_ASYNC, Feature { what: "component-model async", hint: "build JavaScript with `--sync`, and export plain functions" }),
];

/// Features a component may use. Fixed, whatever the library's defaults become: no threads, gc, exceptions, memory64, stack switching.
/// Tail calls are QuickJS's.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::COMPONENT_MODEL
}

/// Look at a file. `limit` is the most bytes this tenant may upload; how many parts it may have goes by its own size.
pub fn inspect(file: &[u8], limit: usize) -> Result<Inspection, Refusal> {
    if file.len() > limit {
        return Err(Refusal::TooLarge { bytes: file.len(), limit });
    }
    if file.starts_with(b"\x7fELF") || file.starts_with(b"hkswcwm") {
        return Err(Refusal::Precompiled);
    }
    if !file.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }
    let seen = walk(file)?;
    Validator::new_with_features(features()).validate_all(file).map_err(|e| not_valid(file, &e))?;
    check_interfaces(file, &seen)?;
    Ok(Inspection {
        hash: content_hash(file),
        bytes: file.len(),
        imports: seen.imports,
        exports: seen.exports,
        core_modules: seen.modules,
        memories: seen.memories,
        tables: seen.tables,
    })
}

/// A validator knows where a file went wrong, but not that one more feature would have made it right: so it is tried again with all of them,
/// and without each.
fn not_valid(file: &[u8], error: &wasmparser::BinaryReaderError) -> Refusal {
    let valid = |features| Validator::new_with_features(features).validate_all(file).is_ok();
    let all = REFUSED.iter().fold(features(), |all, (feature, _)| all | *feature);
    if valid(all)
        && let Some((_, feature)) = REFUSED.iter().find(|(feature, _)| !valid(all.difference(*feature)))
    {
        return Refusal::Feature(*feature);
    }
    broken(file, error)
}

fn broken(file: &[u8], error: &wasmparser::BinaryReaderError) -> Refusal {
    // wasmparser has no type for this one; a test would see its text change.
    if error.message().contains("unexpected end-of-file") {
        return Refusal::Truncated(file.len());
    }
    Refusal::Invalid(error.to_string())
}

/// What a walk over all sections finds. Names are those of the outermost component.
#[derive(Default)]
struct Seen {
    modules: usize,
    components: usize,
    memories: usize,
    tables: usize,
    instances: usize,
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Walk all sections, also of nested modules and components, before the costlier validation.
fn walk(file: &[u8]) -> Result<Seen, Refusal> {
    let invalid = |e: wasmparser::BinaryReaderError| broken(file, &e);
    let class = Class::of(file.len());
    let mut seen = Seen::default();
    // Encodings of what is open, outermost first.
    let mut open: Vec<Encoding> = Vec::new();
    for payload in Parser::new(0).parse_all(file) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding, .. } => {
                if open.is_empty() && encoding == Encoding::Module {
                    return Err(Refusal::CoreModule);
                }
                open.push(encoding);
            }
            Payload::End(_) => {
                open.pop();
            }
            Payload::ModuleSection { .. } => {
                seen.modules += 1;
                // Code further down means components that talk to each other inside, through adapters that we do not want to run.
                if open.len() > 1 {
                    return Err(Refusal::Composed);
                }
            }
            Payload::ComponentSection { .. } => seen.components += 1,
            Payload::InstanceSection(s) => seen.instances += s.count() as usize,
            Payload::MemorySection(s) => seen.memories += s.count() as usize,
            Payload::TableSection(s) => seen.tables += s.count() as usize,
            Payload::ComponentCanonicalSection(s) => {
                for function in s {
                    let (CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. }) = function.map_err(invalid)?
                    else {
                        continue;
                    };
                    if options.iter().any(|o| matches!(o, CanonicalOption::UTF16 | CanonicalOption::CompactUTF16)) {
                        return Err(Refusal::StringEncoding);
                    }
                }
            }
            Payload::ComponentImportSection(s) if open.len() == 1 => {
                for import in s {
                    seen.imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(s) if open.len() == 1 => {
                for export in s {
                    seen.exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        for (what, count, limit) in [
            ("core modules", seen.modules, class.core_modules()),
            ("nested components", seen.components, limits::NESTED_COMPONENTS),
            ("memories", seen.memories, limits::MEMORIES),
            ("tables", seen.tables, limits::TABLES),
            ("core instances", seen.instances, class.core_instances()),
        ] {
            if count > limit {
                return Err(Refusal::TooMany { what, count, limit });
            }
        }
    }
    Ok(seen)
}

/// `handler` for `hookswitch:call/handler@0.1.4`; `None` for other packages, versions or no version at all.
fn served(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')?;
    let patch = version.strip_prefix(SERVED)?.strip_prefix('.')?;
    patch.bytes().all(|b| b.is_ascii_digit()).then_some(interface)
}

/// `handler` for `hookswitch:call/handler`, of whatever version.
fn of_package(name: &str) -> Option<&str> {
    let interface = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(interface.split_once('@').map_or(interface, |(interface, _)| interface))
}

fn check_interfaces(file: &[u8], seen: &Seen) -> Result<(), Refusal> {
    let ours = Contract::new();
    for name in &seen.imports {
        ours.check_import(name)?;
    }
    for name in &seen.exports {
        ours.check_export(name)?;
    }
    if !seen.exports.iter().any(|e| served(e) == Some(EXPORTS[0])) {
        let found = if seen.exports.is_empty() { "nothing".into() } else { seen.exports.join(", ") };
        return Err(Refusal::NoHandler { found });
    }
    // The decoder is made for components of known tools; should it panic on another one, that is a refusal and no more.
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| wit_parser::decoding::decode(file)));
    let (theirs, world) = match decoded {
        Ok(Ok(DecodedWasm::Component(resolve, world))) => (resolve, world),
        Ok(Ok(DecodedWasm::WitPackage(..))) => return Err(Refusal::Invalid("a WIT package without code".into())),
        Ok(Err(e)) => return Err(Refusal::Invalid(format!("its interfaces cannot be read: {e:#}"))),
        Err(_) => return Err(Refusal::Invalid("its interfaces cannot be read".into())),
    };
    let world = &theirs.worlds[world];
    for (key, item) in &world.imports {
        let name = theirs.name_world_key(key);
        match (item, served(&name).and_then(|n| ours.interface(n))) {
            // Types that the world's exports use appear here as imports of their own.
            (WorldItem::Type { .. }, _) => {}
            (WorldItem::Interface { id, .. }, Some(own)) => {
                for (function, theirs_f) in &theirs.interfaces[*id].functions {
                    ours.check(&name, function, own.functions.get(function), &theirs, theirs_f)?;
                }
            }
            _ => {
                ours.check_import(&name)?;
                return Err(Refusal::Import { name, offered: ours.offered() });
            }
        }
    }
    for (key, item) in &world.exports {
        let name = theirs.name_world_key(key);
        // Exports of other packages are never called.
        if let (WorldItem::Interface { id, .. }, Some(own)) = (item, served(&name).and_then(|n| ours.interface(n))) {
            for (function, own_f) in &own.functions {
                let Some(theirs_f) = theirs.interfaces[*id].functions.get(function) else {
                    return Err(Refusal::Function { name: format!("{name}#{function}"), how: "is missing; it is a part of" });
                };
                ours.check(&name, function, Some(own_f), &theirs, theirs_f)?;
            }
        }
    }
    Ok(())
}

/// The contract as this node was built with it.
struct Contract {
    resolve: Resolve,
    package: PackageId,
}

impl Contract {
    fn new() -> Contract {
        let mut files = SourceMap::default();
        for (name, text) in [
            ("types.wit", include_str!("../../../wit/types.wit")),
            ("host.wit", include_str!("../../../wit/host.wit")),
            ("handler.wit", include_str!("../../../wit/handler.wit")),
            ("world.wit", include_str!("../../../wit/world.wit")),
        ] {
            files.push_str(name, text);
        }
        let group = files.parse().map_err(|(_, e)| e).expect("a test parses these files");
        let mut resolve = Resolve::default();
        let package = resolve.push_group(group).expect("a test resolves these files");
        Contract { resolve, package }
    }

    fn interface(&self, name: &str) -> Option<&Interface> {
        let id: InterfaceId = *self.resolve.packages[self.package].interfaces.get(name)?;
        Some(&self.resolve.interfaces[id])
    }

    /// Whether this node has what is imported by this name.
    fn check_import(&self, full: &str) -> Result<(), Refusal> {
        let name = full.to_owned();
        if full.starts_with("wasi:") {
            return Err(Refusal::Wasi { name, offered: self.offered() });
        }
        match (of_package(full).filter(|interface| self.interface(interface).is_some()), served(full)) {
            (None, _) => Err(Refusal::Import { name, offered: self.offered() }),
            (Some(interface), _) if EXPORTS.contains(&interface) => Err(Refusal::ImportOfExport { name }),
            (Some(_), None) => Err(Refusal::ImportVersion { name }),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// Exports of other packages are never called. One of ours that is not served would not be either, and its author expects it to be.
    fn check_export(&self, full: &str) -> Result<(), Refusal> {
        match (of_package(full), served(full)) {
            (None, _) => Ok(()),
            (Some(interface), _) if !EXPORTS.contains(&interface) => Err(Refusal::Export { name: full.to_owned() }),
            (Some(_), None) => Err(Refusal::ExportVersion { name: full.to_owned() }),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    fn offered(&self) -> String {
        let names: Vec<&str> = self.resolve.packages[self.package]
            .interfaces
            .keys()
            .map(String::as_str)
            .filter(|n| !EXPORTS.contains(n) && *n != "types")
            .collect();
        format!("{PACKAGE} {SERVED}.x: {}", names.join(", "))
    }

    fn check(&self, interface: &str, name: &str, own: Option<&Function>, resolve: &Resolve, theirs: &Function) -> Result<(), Refusal> {
        let name = || format!("{interface}#{name}");
        let Some(own) = own else { return Err(Refusal::Function { name: name(), how: "is not a part of" }) };
        let same_params = own.params.len() == theirs.params.len()
            && own.params.iter().zip(&theirs.params).all(|(a, b)| same(&self.resolve, &a.ty, resolve, &b.ty));
        if same_params && same_option(&self.resolve, own.result.as_ref(), resolve, theirs.result.as_ref()) {
            Ok(())
        } else {
            Err(Refusal::Function { name: name(), how: "has other types than in" })
        }
    }
}

fn same_option(a_resolve: &Resolve, a: Option<&Type>, b_resolve: &Resolve, b: Option<&Type>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same(a_resolve, a, b_resolve, b),
        _ => false,
    }
}

/// Whether two types are built alike. The first is ours, which bounds the work.
fn same(a_resolve: &Resolve, a: &Type, b_resolve: &Resolve, b: &Type) -> bool {
    let (a, b) = match (plain(a_resolve, a), plain(b_resolve, b)) {
        (Err(a), Err(b)) => return a == b,
        (Ok(a), Ok(b)) => (a, b),
        _ => return false,
    };
    let both = |x: &Type, y: &Type| same(a_resolve, x, b_resolve, y);
    let maybe = |x: &Option<Type>, y: &Option<Type>| same_option(a_resolve, x.as_ref(), b_resolve, y.as_ref());
    match (a, b) {
        (TypeDefKind::Record(x), TypeDefKind::Record(y)) => {
            x.fields.len() == y.fields.len() && x.fields.iter().zip(&y.fields).all(|(x, y)| x.name == y.name && both(&x.ty, &y.ty))
        }
        (TypeDefKind::Variant(x), TypeDefKind::Variant(y)) => {
            x.cases.len() == y.cases.len() && x.cases.iter().zip(&y.cases).all(|(x, y)| x.name == y.name && maybe(&x.ty, &y.ty))
        }
        (TypeDefKind::Enum(x), TypeDefKind::Enum(y)) => {
            x.cases.len() == y.cases.len() && x.cases.iter().zip(&y.cases).all(|(x, y)| x.name == y.name)
        }
        (TypeDefKind::Tuple(x), TypeDefKind::Tuple(y)) => {
            x.types.len() == y.types.len() && x.types.iter().zip(&y.types).all(|(x, y)| both(x, y))
        }
        (TypeDefKind::Option(x), TypeDefKind::Option(y)) | (TypeDefKind::List(x), TypeDefKind::List(y)) => both(x, y),
        (TypeDefKind::Result(x), TypeDefKind::Result(y)) => maybe(&x.ok, &y.ok) && maybe(&x.err, &y.err),
        _ => false,
    }
}

/// What a type is behind its aliases: a definition, or else a primitive.
fn plain<'a>(resolve: &'a Resolve, ty: &'a Type) -> Result<&'a TypeDefKind, &'a Type> {
    let mut ty = ty;
    while let Type::Id(id) = ty {
        match &resolve.types[*id].kind {
            TypeDefKind::Type(alias) => ty = alias,
            kind => return Ok(kind),
        }
    }
    Err(ty)
}
