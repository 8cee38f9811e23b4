//! What wasmtime makes of `wit/`: types, host traits, export lookups. Generated; the rest of the crate gives it a face.
// The generator writes an unused argument for an interface that holds only types, and documents nothing it adds itself.
#![allow(unused_variables, missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "handler-full",
    // Imports that never wait are plain calls; the others may wait for the node.
    imports: {
        "hookswitch:call/log": trappable,
        "hookswitch:call/clock": trappable,
        "hookswitch:call/random": trappable,
        "hookswitch:call/config": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    // Questions and answers are kept for whoever wants to know why a call went as it did, and are read again to be asked again.
    additional_derives: [serde::Serialize, serde::Deserialize],
});
