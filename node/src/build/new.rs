//! `guest new`: a folder with a handler that builds, is tested and takes a call. Start with [`new`].

use super::{BuildError, Language};
use std::path::{Path, PathBuf};

/// The template of a language, and under which name each file is written. Rust's manifest is stored under another name: cargo would take
/// it for a package.
fn files(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        Language::Rust => &[
            ("Cargo.toml", include_str!("template/rust/Cargo.toml.in")),
            ("src/lib.rs", include_str!("template/rust/src/lib.rs")),
            ("README.md", include_str!("template/rust/README.md")),
            (".gitignore", "/target\n"),
            ("rust-toolchain.toml", include_str!("../../../rust-toolchain.toml")),
        ],
        Language::Js => &[
            ("package.json", include_str!("template/js/package.json")),
            ("package-lock.json", include_str!("template/js/package-lock.json")),
            ("jsconfig.json", include_str!("template/js/jsconfig.json")),
            ("handler.js", include_str!("template/js/handler.js")),
            ("handler.test.js", include_str!("template/js/handler.test.js")),
            ("README.md", include_str!("template/js/README.md")),
            (".gitignore", "/build\n/hookswitch\n/node_modules\n"),
        ],
        Language::Python => &[
            ("handler.py", include_str!("template/python/handler.py")),
            ("test_handler.py", include_str!("template/python/test_handler.py")),
            ("requirements.txt", include_str!("template/python/requirements.txt")),
            ("README.md", include_str!("template/python/README.md")),
            (".gitignore", "/build\n/hookswitch\n/.venv\n__pycache__\n"),
        ],
        Language::C => &[
            ("handler.c", include_str!("template/c/handler.c")),
            ("test/handler_test.c", include_str!("template/c/test/handler_test.c")),
            ("Makefile", include_str!("template/c/Makefile")),
            ("requirements.txt", include_str!("template/c/requirements.txt")),
            ("README.md", include_str!("template/c/README.md")),
            (".gitignore", "/build\n/hookswitch\n/.venv\n"),
        ],
    }
}

/// A new guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub dir: PathBuf,
    pub name: String,
    pub language: Language,
    /// The SDK that its manifest names, where cargo takes it from a folder.
    pub sdk: Option<PathBuf>,
    /// The command that runs its tests, in its folder.
    pub test: &'static str,
}

/// Makes the folder `dir` with a small handler. `name`: of the package, else the folder's. `sdk`, for Rust: the folder of hookswitch-sdk,
/// else `HOOKSWITCH_SDK`, else the one this binary was built from, else one beside a folder that holds this binary.
pub fn new(dir: &Path, name: Option<&str>, language: Language, sdk: Option<&Path>) -> Result<Created, BuildError> {
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
    let sdk = if language == Language::Rust { Some(find_sdk(sdk)?) } else { None };
    for (path, text) in files(language) {
        let path = dir.join(path);
        let parent = path.parent().expect("each file of the template lies in the folder");
        std::fs::create_dir_all(parent).map_err(BuildError::io(parent))?;
        let text = text.replace("@NAME@", &name);
        let text = if let Some(sdk) = &sdk { text.replace("@SDK@", &toml_text(sdk)) } else { text };
        std::fs::write(&path, text).map_err(BuildError::io(&path))?;
    }
    // The versions that the SDK was tested with; cargo drops what this guest does not use. Without it the first build asks the registry.
    let lock = sdk.as_ref().and_then(|sdk| sdk.parent()).map(|root| root.join("Cargo.lock"));
    if let Some(lock) = lock.filter(|lock| lock.is_file()) {
        let to = dir.join("Cargo.lock");
        std::fs::copy(lock, &to).map_err(BuildError::io(&to))?;
    }
    let dir = dir.canonicalize().map_err(BuildError::io(dir))?;
    super::furnish(&dir, language)?;
    let test = match language {
        Language::Rust => "cargo test",
        Language::Js => "npm test",
        Language::Python => "python3 -m unittest",
        Language::C => "make test",
    };
    Ok(Created { dir, name, language, sdk, test })
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
