//! `guest new`: a folder with a handler that builds, is tested and takes a call. Start with [`new`].

use super::BuildError;
use std::path::{Path, PathBuf};

/// The template, and under which name each file is written. The manifest is stored under another name: cargo would take it for a package.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/src/lib.rs")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", "/target\n"),
    ("rust-toolchain.toml", include_str!("../../../rust-toolchain.toml")),
];

/// A new guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub dir: PathBuf,
    pub name: String,
    /// The SDK that its manifest names.
    pub sdk: PathBuf,
}

/// Makes the folder `dir` with a small handler. `name`: of the package, else the folder's. `sdk`: the folder of hookswitch-sdk, else
/// `HOOKSWITCH_SDK`, else the one this binary was built from, else one beside a folder that holds this binary.
pub fn new(dir: &Path, name: Option<&str>, sdk: Option<&Path>) -> Result<Created, BuildError> {
    let own = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.map(str::to_string).or(own).unwrap_or_default();
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    // Cargo refuses such packages with a longer story.
    if !valid || ["test", "core", "std", "alloc", "proc-macro", "hookswitch-sdk"].contains(&name.as_str()) {
        return Err(BuildError::Name(name));
    }
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BuildError::Exists(dir.to_path_buf()));
    }
    let sdk = find_sdk(sdk)?;
    for (path, text) in FILES {
        let path = dir.join(path);
        let parent = path.parent().expect("each file of the template lies in the folder");
        std::fs::create_dir_all(parent).map_err(BuildError::io(parent))?;
        let text = text.replace("@NAME@", &name).replace("@SDK@", &toml_text(&sdk));
        std::fs::write(&path, text).map_err(BuildError::io(&path))?;
    }
    // The versions that the SDK was tested with; cargo drops what this guest does not use. Without it the first build asks the registry.
    if let Some(lock) = sdk.parent().map(|root| root.join("Cargo.lock")).filter(|lock| lock.is_file()) {
        let to = dir.join("Cargo.lock");
        std::fs::copy(lock, &to).map_err(BuildError::io(&to))?;
    }
    let dir = dir.canonicalize().map_err(BuildError::io(dir))?;
    Ok(Created { dir, name, sdk })
}

fn is_sdk(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("Cargo.toml"))
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .is_some_and(|manifest| manifest.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str()) == Some("hookswitch-sdk"))
}

/// The SDK is not on a registry: a guest names its folder.
fn find_sdk(given: Option<&Path>) -> Result<PathBuf, BuildError> {
    let environment = std::env::var_os("HOOKSWITCH_SDK").filter(|path| !path.is_empty()).map(PathBuf::from);
    // Whoever names a folder means it: another one is not taken instead.
    let named = given.map(Path::to_path_buf).or(environment);
    let found = match &named {
        Some(dir) => Some(dir.clone()).filter(|dir| is_sdk(dir)),
        None => {
            let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
            let beside = std::env::current_exe().ok();
            let beside = beside.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join("sdk"));
            std::iter::once(checkout).chain(beside).find(|dir| is_sdk(dir))
        }
    };
    let place = || named.as_ref().map(|dir| format!(" in {}", dir.display())).unwrap_or_default();
    found.and_then(|dir| dir.canonicalize().ok()).ok_or_else(|| BuildError::NoSdk(place()))
}

/// Inside a TOML basic string.
fn toml_text(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"")
}
