//! hookswitch-wasm: the only user of wasmtime. Loads a tenant's component, bounds it, calls its hooks. Knows the WIT, not the call.

#[cfg(test)]
mod wit_test;
