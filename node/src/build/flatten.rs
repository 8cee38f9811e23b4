//! What componentize-qjs makes, as a node takes it: one component with code, without WASI.
//!
//! Its output holds the handler's component beside one that only answers a question for randomness, and the handler's imports WASI. Its own
//! option against that, `--stub-wasi`, adds a third component; calls between components inside of one go through adapters, which a node does
//! not run. Here the handler's component is taken out, and each function of WASI that its core modules are given becomes one of a core
//! module that traps. What was imported for them (instances, their types, and all that is made of these) goes away.

use wasm_encoder::reencode::{Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CodeSection, Component, ComponentAliasSection, ComponentExportSection, ComponentImportSection,
    ComponentInstanceSection, ComponentTypeSection, ExportKind, ExportSection, Function, FunctionSection, InstanceSection, Instruction,
    Module, ModuleArg, ModuleSection, RawSection, TypeSection, ValType,
};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, ValidPayload, Validator,
    WasmFeatures,
};

/// What is kept of the imports.
const OURS: &str = "hookswitch:";
/// The only function of WASI that is called when no clock or file is asked for: its seed is for hash tables. It answers without an answer: what
/// lay in memory is the seed.
const SEED: &str = "insecure-seed";

/// The component in `file` that exports the handler, without WASI.
pub(super) fn flatten(file: &[u8]) -> Result<Vec<u8>, String> {
    strip(main(file)?).map_err(|error| error.to_string())
}

/// The nested component with the most bytes holds the engine and the handler; a file without nested code is it.
fn main(file: &[u8]) -> Result<&[u8], String> {
    let mut main = None;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(file) {
        match payload.map_err(|error| error.to_string())? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection { .. } if depth == 1 => return Ok(file),
            Payload::ComponentSection { unchecked_range, .. } if depth == 1 => {
                let inner = &file[unchecked_range];
                main = main.filter(|main: &&[u8]| main.len() > inner.len()).or(Some(inner));
            }
            _ => {}
        }
    }
    main.ok_or_else(|| "it holds no code".into())
}

type Error = wasm_encoder::reencode::Error;

/// Indices of a component's items, as they were and as they become; `None` is gone.
#[derive(Default)]
struct Space(Vec<Option<u32>>);

impl Space {
    fn keep(&mut self) {
        let next = self.0.iter().flatten().count();
        self.0.push(u32::try_from(next).ok());
    }
    fn drop(&mut self) {
        self.0.push(None);
    }
    fn push(&mut self, kept: bool) {
        if kept { self.keep() } else { self.drop() }
    }
}

/// Renumbers what it copies, and notices when an item is made of one that is gone.
#[derive(Default)]
struct Copier {
    types: Space,
    instances: Space,
    functions: Space,
    /// Nesting of type declarations, which have indices of their own.
    depth: u32,
    gone: bool,
}

impl Copier {
    fn moved(&mut self, which: fn(&Copier) -> &Space, index: u32) -> u32 {
        match which(self).0.get(index as usize) {
            Some(Some(index)) => *index,
            _ => {
                self.gone = true;
                0
            }
        }
    }

    /// Copies one item into a section of its own; false, if it is gone.
    fn item<S: wasm_encoder::ComponentSection + Default>(
        &mut self,
        to: &mut Component,
        copy: impl FnOnce(&mut Copier, &mut S) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.gone = false;
        let mut section = S::default();
        copy(self, &mut section)?;
        if !self.gone {
            to.section(&section);
        }
        Ok(!self.gone)
    }
}

impl Reencode for Copier {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Copier {
    fn component_type_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { self.moved(|own| &own.types, index) } else { index }
    }
    fn component_instance_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { self.moved(|own| &own.instances, index) } else { index }
    }
    fn component_func_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { self.moved(|own| &own.functions, index) } else { index }
    }
    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        if count == self.depth { self.moved(|own| &own.types, index) } else { index }
    }
    // The module of stubs and its instance come first.
    fn module_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { index + 1 } else { index }
    }
    fn instance_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { index + 1 } else { index }
    }
    fn push_depth(&mut self) {
        self.depth += 1;
    }
    fn pop_depth(&mut self) {
        self.depth -= 1;
    }
}

/// One core function in place of one of WASI.
struct Stub {
    params: Vec<ValType>,
    results: Vec<ValType>,
    traps: bool,
}

fn strip(component: &[u8]) -> Result<Vec<u8>, Error> {
    // A copy without the stubs tells their signatures: those of the core functions that lowering WASI's gives.
    let (_, replaced) = copied(component, &[])?;
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut types = None;
    for payload in Parser::new(0).parse_all(component) {
        if let ValidPayload::End(end) = validator.payload(&payload?)? {
            types = Some(end);
        }
    }
    let types = types.expect("a component that was read has an end");
    let mut stubs = Vec::new();
    for (index, traps) in replaced {
        let types = types.as_ref();
        let ty = types[types.core_function_at(index)].unwrap_func();
        let mut copier = Copier::default();
        let of =
            |copier: &mut Copier, all: &[wasmparser::ValType]| all.iter().map(|ty| copier.val_type(*ty)).collect::<Result<Vec<_>, _>>();
        stubs.push(Stub { params: of(&mut copier, ty.params())?, results: of(&mut copier, ty.results())?, traps });
    }
    Ok(copied(component, &stubs)?.0.finish())
}

/// The component with stubs, and which core functions they replace.
fn copied(file: &[u8], stubs: &[Stub]) -> Result<(Component, Vec<(u32, bool)>), Error> {
    let mut to = Component::new();
    to.section(&ModuleSection(&module(stubs)));
    let mut instances = InstanceSection::new();
    instances.instantiate(0, std::iter::empty::<(&str, ModuleArg)>());
    to.section(&instances);

    let mut copier = Copier::default();
    let mut replaced = Vec::new();
    // Core functions so far, and names of component functions.
    let mut core = 0u32;
    let mut names: Vec<String> = Vec::new();
    let mut parser = Parser::new(0);
    let mut rest = file;
    loop {
        let wasmparser::Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else { unreachable!("the file is whole") };
        // A section that says it is longer than the file was refused when `main` walked over all of it.
        let (section, behind) = rest.split_at(consumed);
        rest = behind;
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => {}
            // Their content follows their header and is copied as it is: nothing inside refers to what is outside.
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                let (data, behind) = rest.split_at(unchecked_range.len());
                rest = behind;
                to.section(&RawSection { id: section[0], data });
            }
            Payload::ComponentTypeSection(items) => {
                for ty in items {
                    let kept = copier.item::<ComponentTypeSection>(&mut to, |copier, s| copier.parse_component_type(s.ty(), ty?))?;
                    copier.types.push(kept);
                }
            }
            Payload::ComponentImportSection(items) => {
                for import in items {
                    let import = import?;
                    let kept = import.name.name.starts_with(OURS)
                        && copier.item::<ComponentImportSection>(&mut to, |copier, s| {
                            s.import(import.name, copier.component_type_ref(import.ty)?);
                            Ok(())
                        })?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => copier.instances.push(kept),
                        ComponentTypeRef::Type(_) => copier.types.push(kept),
                        ComponentTypeRef::Func(_) => {
                            copier.functions.push(kept);
                            names.push(import.name.name.to_owned());
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(items) => {
                for alias in items {
                    let alias = alias?;
                    let kept = copier.item::<ComponentAliasSection>(&mut to, |copier, s| {
                        s.alias(copier.component_alias(alias.clone())?);
                        Ok(())
                    })?;
                    match alias {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. } => copier.types.push(kept),
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Instance, .. } => copier.instances.push(kept),
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, name, .. } => {
                            copier.functions.push(kept);
                            names.push(name.to_owned());
                        }
                        ComponentAlias::CoreInstanceExport { kind: wasmparser::ExternalKind::Func, .. } => core += 1,
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(items) => {
                for function in items {
                    let function = function?;
                    let lift = matches!(function, CanonicalFunction::Lift { .. });
                    let seed = matches!(function, CanonicalFunction::Lower { func_index, .. }
                        if names.get(func_index as usize).is_some_and(|name| name == SEED));
                    let kept =
                        copier.item::<CanonicalFunctionSection>(&mut to, |copier, s| copier.parse_component_canonical(s, function))?;
                    if lift {
                        copier.functions.push(kept);
                        names.push(String::new());
                        continue;
                    }
                    if !kept {
                        let mut alias = ComponentAliasSection::new();
                        let name = replaced.len().to_string();
                        alias.alias(Alias::CoreInstanceExport { instance: 0, kind: ExportKind::Func, name: &name });
                        to.section(&alias);
                        replaced.push((core, !seed));
                    }
                    core += 1;
                }
            }
            Payload::InstanceSection(items) => {
                for instance in items {
                    copier.item::<InstanceSection>(&mut to, |copier, s| copier.parse_instance(s, instance?))?;
                }
            }
            Payload::ComponentInstanceSection(items) => {
                for instance in items {
                    let kept =
                        copier.item::<ComponentInstanceSection>(&mut to, |copier, s| copier.parse_component_instance(s, instance?))?;
                    copier.instances.push(kept);
                }
            }
            Payload::ComponentExportSection(items) => {
                for export in items {
                    let export = export?;
                    let kind = export.kind;
                    let kept = copier.item::<ComponentExportSection>(&mut to, |copier, s| copier.parse_component_export(s, export))?;
                    // An export is an item of its own, too.
                    match kind {
                        ComponentExternalKind::Type => copier.types.push(kept),
                        ComponentExternalKind::Instance => copier.instances.push(kept),
                        ComponentExternalKind::Func => {
                            copier.functions.push(kept);
                            names.push(String::new());
                        }
                        _ => {}
                    }
                }
            }
            // Names of items have old indices; the rest is who made it.
            Payload::CustomSection(_) => {}
            Payload::End(_) => return Ok((to, replaced)),
            other => {
                if let Some((id, range)) = other.as_section() {
                    to.section(&RawSection { id, data: &section[consumed - range.len()..] });
                }
            }
        }
    }
}

/// A core module with a function for each stub, exported under its number.
fn module(stubs: &[Stub]) -> Module {
    let (mut types, mut functions, mut exports, mut code) =
        (TypeSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
    for (number, stub) in (0u32..).zip(stubs) {
        types.ty().function(stub.params.iter().copied(), stub.results.iter().copied());
        functions.function(number);
        exports.export(&number.to_string(), ExportKind::Func, number);
        let mut body = Function::new([]);
        if stub.traps || !stub.results.is_empty() {
            body.instruction(&Instruction::Unreachable);
        }
        body.instruction(&Instruction::End);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&exports).section(&code);
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As componentize-qjs makes it: the handler beside another component, with functions of WASI that take and give resources.
    const COMPOSED: &str = r#"(component
        (component $seed (core module) (core module))
        (component $main
            (import "wasi:io/error@0.2.0" (instance $io (export "error" (type (sub resource)))))
            (alias export $io "error" (type $error))
            (import "wasi:cli/stderr@0.2.0" (instance $err
                (alias outer $main $error (type $outer))
                (export "error" (type $e (eq $outer)))
                (export "get-error" (func (param "code" u32) (result (own $e))))))
            (import "wasi:random/insecure-seed@0.2.0" (instance $random (export "insecure-seed" (func (result u64)))))
            (type $unused (own $error))
            (import "hookswitch:call/clock@0.1.0" (instance $clock (export "now-ms" (func (result u64)))))
            (core module $empty)
            (core instance (instantiate $empty))
            (core func $get (canon lower (func $err "get-error")))
            (core func $drop (canon resource.drop $error))
            (core func $now (canon lower (func $clock "now-ms")))
            (core module $m
                (import "" "get" (func (param i32) (result i32)))
                (import "" "drop" (func (param i32)))
                (import "" "now" (func (result i64)))
                (func (export "now") (result i64) call 2))
            (core instance $i (instantiate $m (with "" (instance
                (export "get" (func $get)) (export "drop" (func $drop)) (export "now" (func $now))))))
            (func $now-ms (result u64) (canon lift (core func $i "now")))
            (instance $handler (export "now" (func $now-ms)))
            (export "handler" (instance $handler))))"#;

    #[test]
    fn the_handler_is_taken_out_and_only_our_imports_are_left() {
        let file = wat::parse_str(COMPOSED).expect("it parses");
        let flat = flatten(&file).expect("flattens");
        Validator::new_with_features(WasmFeatures::all()).validate_all(&flat).expect("valid");
        let (mut imports, mut exports, mut components) = (Vec::new(), Vec::new(), 0);
        for payload in Parser::new(0).parse_all(&flat) {
            match payload.expect("readable") {
                Payload::ComponentImportSection(items) => {
                    imports.extend(items.into_iter().map(|i| i.expect("readable").name.name.to_owned()))
                }
                Payload::ComponentExportSection(items) => {
                    exports.extend(items.into_iter().map(|e| e.expect("readable").name.name.to_owned()))
                }
                Payload::ComponentSection { .. } => components += 1,
                _ => {}
            }
        }
        assert_eq!((imports, exports, components), (vec!["hookswitch:call/clock@0.1.0".to_owned()], vec!["handler".to_owned()], 0));
        // What is flat already stays what it is.
        let again = flatten(&flat).expect("flattens");
        Validator::new_with_features(WasmFeatures::all()).validate_all(&again).expect("valid");
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for file in [&b""[..], b"RIFF", b"\0asm\x0d\0\x01\0", b"\0asm\x0d\0\x01\0\x04\xff"] {
            assert!(flatten(file).is_err(), "{file:?}");
        }
    }
}
