//! TypeScript declarations of the contract: how componentize-qjs shows its records, variants and functions to JavaScript.
//!
//! The types stand in one module, so that handlers import them by name; each interface of the node is an ambient module of its own name.

use std::fmt::Write;
use wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem};

/// The texts of `types.d.ts` and `host.d.ts`. The second is a file of its own, since a file that exports cannot declare other modules.
pub(super) fn of(resolve: &Resolve, world: WorldId) -> [String; 2] {
    let head = || String::from("// Made by hookswitch of the contract (wit/): do not edit.\n\n");
    let (mut out, mut modules) = (head(), head());
    for (key, item) in &resolve.worlds[world].imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = &resolve.interfaces[*id];
        for (name, ty) in &interface.types {
            define(&mut out, resolve, name, *ty);
        }
        if !interface.functions.is_empty() {
            module(&mut modules, resolve, &resolve.name_world_key(key), interface);
        }
    }
    [out, modules]
}

/// One type. Names are unique over the whole contract where two interfaces define some; aliases of another interface's type are not repeated.
fn define(out: &mut String, resolve: &Resolve, name: &str, id: TypeId) {
    let ty = &resolve.types[id];
    let name = pascal(name);
    if matches!(ty.kind, TypeDefKind::Type(Type::Id(_))) {
        return;
    }
    docs(out, &ty.docs, "");
    match &ty.kind {
        TypeDefKind::Record(record) => {
            let _ = writeln!(out, "export interface {name} {{");
            for field in &record.fields {
                docs(out, &field.docs, "  ");
                // Absent and null are the same to the engine.
                let optional = matches!(&field.ty, Type::Id(id) if matches!(resolve.types[*id].kind, TypeDefKind::Option(_)));
                let _ = writeln!(out, "  {}{}: {};", camel(&field.name), if optional { "?" } else { "" }, named(resolve, &field.ty));
            }
            out.push_str("}\n\n");
        }
        TypeDefKind::Variant(variant) => {
            let _ = write!(out, "export type {name} =");
            for case in &variant.cases {
                out.push('\n');
                docs(out, &case.docs, "  ");
                let _ = match &case.ty {
                    Some(ty) => write!(out, "  | {{ tag: \"{}\"; val: {} }}", case.name, named(resolve, ty)),
                    None => write!(out, "  | {{ tag: \"{}\" }}", case.name),
                };
            }
            out.push_str(";\n\n");
        }
        TypeDefKind::Enum(of) => {
            let _ = write!(out, "export type {name} =");
            for case in &of.cases {
                out.push('\n');
                docs(out, &case.docs, "  ");
                let _ = write!(out, "  | \"{}\"", case.name);
            }
            out.push_str(";\n\n");
        }
        kind => {
            let _ = writeln!(out, "export type {name} = {};\n", anonymous(resolve, kind));
        }
    }
}

/// An interface of the node, whose functions throw a `HostError` where they have an error.
fn module(out: &mut String, resolve: &Resolve, name: &str, interface: &Interface) {
    let _ = writeln!(out, "declare module \"{name}\" {{\n  const functions: {{");
    for function in interface.functions.values() {
        docs(out, &function.docs, "    ");
        let _ = writeln!(out, "    {};", signature(resolve, function));
    }
    out.push_str("  };\n  export default functions;\n}\n\n");
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<String> =
        function.params.iter().map(|param| format!("{}: {}", camel(&param.name), qualified(resolve, &param.ty))).collect();
    let result = match &function.result {
        None => "void".to_owned(),
        Some(Type::Id(id)) => match &resolve.types[*id].kind {
            // The error is thrown.
            TypeDefKind::Result(result) => result.ok.as_ref().map_or("void".to_owned(), |ok| qualified(resolve, ok)),
            _ => qualified(resolve, &Type::Id(*id)),
        },
        Some(ty) => qualified(resolve, ty),
    };
    format!("{}({}): {result}", camel(&function.name), params.join(", "))
}

/// In an ambient module names of this file need to say where they are from.
fn qualified(resolve: &Resolve, ty: &Type) -> String {
    spell(resolve, ty, "import(\"./types.js\").")
}

fn named(resolve: &Resolve, ty: &Type) -> String {
    spell(resolve, ty, "")
}

fn spell(resolve: &Resolve, ty: &Type, from: &str) -> String {
    match ty {
        Type::Bool => "boolean".into(),
        Type::Char | Type::String => "string".into(),
        // 64 bits as well: what is beyond 2^53 loses its last digits.
        Type::U8 | Type::S8 | Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::U64 | Type::S64 | Type::F32 | Type::F64 => {
            "number".into()
        }
        Type::ErrorContext => "never".into(),
        Type::Id(id) => {
            let ty = &resolve.types[*id];
            match (&ty.name, &ty.kind) {
                (Some(_), TypeDefKind::Type(other)) => spell(resolve, other, from),
                (Some(name), _) if matches!(ty.owner, TypeOwner::Interface(_)) => format!("{from}{}", pascal(name)),
                (_, kind) => compound(resolve, kind, from),
            }
        }
    }
}

fn anonymous(resolve: &Resolve, kind: &TypeDefKind) -> String {
    compound(resolve, kind, "")
}

fn compound(resolve: &Resolve, kind: &TypeDefKind, from: &str) -> String {
    let of = |ty: &Type| spell(resolve, ty, from);
    match kind {
        TypeDefKind::Option(ty) => format!("{} | null", of(ty)),
        TypeDefKind::List(Type::U8) => "Uint8Array".into(),
        TypeDefKind::List(ty) => format!("Array<{}>", of(ty)),
        TypeDefKind::Tuple(tuple) => format!("[{}]", tuple.types.iter().map(of).collect::<Vec<_>>().join(", ")),
        TypeDefKind::Type(ty) => of(ty),
        // The contract has no others.
        _ => "unknown".into(),
    }
}

fn docs(out: &mut String, docs: &Docs, indent: &str) {
    let Some(text) = docs.contents.as_deref() else { return };
    // A line of dashes separates parts of the contract's file; it tells a reader of one type nothing.
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("-----")).collect();
    match lines.as_slice() {
        [] => {}
        [line] => {
            let _ = writeln!(out, "{indent}/** {line} */");
        }
        lines => {
            let _ = writeln!(out, "{indent}/**");
            for line in lines {
                let _ = writeln!(out, "{indent} * {line}");
            }
            let _ = writeln!(out, "{indent} */");
        }
    }
}

fn pascal(name: &str) -> String {
    name.split('-').map(upper).collect()
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &upper(word))
}

fn upper(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::build::contract;

    #[test]
    fn the_contract_reads_like_typescript() {
        let (resolve, world) = contract::resolve();
        let text = super::of(&resolve, world).concat();
        for line in [
            "export interface NewCallRequest {",
            "  callingPartyPrivacy: Privacy;",
            "  displayName?: string | null;",
            "  xHeaders: Array<[string, string]>;",
            "  | { tag: \"drop\"; val: DropAction }",
            "  | { tag: \"no-answer\" }",
            "  | \"secret\"",
            "  key: Uint8Array;",
            "  nextAfterMs: number;",
            "declare module \"hookswitch:call/log@0.1.0\" {",
            "    write(level: import(\"./types.js\").Level, message: string): void;",
            "    get(key: string): string | null;",
            "    stop(recording: string | null): void;",
        ] {
            assert!(text.lines().any(|own| own.trim_end_matches(';') == line.trim_end_matches(';')), "{line}\n{text}");
        }
        assert!(!text.contains(": unknown"), "{text}");
    }
}
