//! The WIT package keeps its own rules: it parses, every item is documented, variants can grow.

use wit_parser::{Resolve, TypeDefKind};

fn package() -> (Resolve, wit_parser::PackageId) {
    let mut resolve = Resolve::default();
    let (id, _) = resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap_or_else(|e| panic!("{e:#}"));
    (resolve, id)
}

#[test]
fn the_package_parses_and_has_its_worlds() {
    let (resolve, id) = package();
    let package = &resolve.packages[id];
    assert_eq!(package.name.to_string(), "hookswitch:call@0.1.0");
    let worlds: Vec<&str> = package.worlds.keys().map(String::as_str).collect();
    assert_eq!(worlds, ["node-imports", "handler-only", "handler-notified", "handler-full"]);
    let exports = |world: &str| -> Vec<String> {
        let world = &resolve.worlds[package.worlds[world]];
        world.exports.keys().map(|k| resolve.name_world_key(k)).collect()
    };
    assert_eq!(exports("handler-only"), ["hookswitch:call/handler@0.1.0"]);
    assert_eq!(
        exports("handler-full"),
        ["handler", "notifications", "call-identifier", "remote-call"].map(|i| format!("hookswitch:call/{i}@0.1.0"))
    );
}

#[test]
fn every_item_is_documented() {
    let (resolve, id) = package();
    let mut bare = Vec::new();
    let mut look = |docs: &wit_parser::Docs, name: String| {
        if docs.contents.as_deref().is_none_or(str::is_empty) {
            bare.push(name);
        }
    };
    look(&resolve.packages[id].docs, "package".into());
    for (name, world) in &resolve.packages[id].worlds {
        look(&resolve.worlds[*world].docs, name.clone());
    }
    for (name, interface) in &resolve.packages[id].interfaces {
        let interface = &resolve.interfaces[*interface];
        look(&interface.docs, name.clone());
        for (f, function) in &interface.functions {
            look(&function.docs, format!("{name}.{f}"));
        }
        for (t, ty) in &interface.types {
            let ty = &resolve.types[*ty];
            let item = format!("{name}.{t}");
            match &ty.kind {
                TypeDefKind::Type(_) => continue,
                TypeDefKind::Record(r) => r.fields.iter().for_each(|f| look(&f.docs, format!("{item}.{}", f.name))),
                TypeDefKind::Variant(v) => v.cases.iter().for_each(|c| look(&c.docs, format!("{item}.{}", c.name))),
                TypeDefKind::Enum(e) => e.cases.iter().for_each(|c| look(&c.docs, format!("{item}.{}", c.name))),
                other => panic!("{item}: unexpected {other:?}"),
            }
            look(&ty.docs, item);
        }
    }
    assert!(bare.is_empty(), "without ///: {bare:#?}");
}

/// Cases cannot be added to a variant later, so each of the shared ones ends in a way out.
#[test]
fn every_shared_variant_ends_in_ext() {
    let (resolve, id) = package();
    let types = &resolve.interfaces[resolve.packages[id].interfaces["types"]];
    let mut variants = 0;
    for (name, ty) in &types.types {
        if let TypeDefKind::Variant(v) = &resolve.types[*ty].kind {
            variants += 1;
            assert_eq!(v.cases.last().map(|c| c.name.as_str()), Some("ext"), "{name}");
        }
    }
    assert!(variants > 20, "{variants} variants seen");
}
