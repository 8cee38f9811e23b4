//! The languages a handler can be written in, and how its folder tells which one it is.

use super::BuildError;
use clap::ValueEnum;
use std::path::Path;

/// What a handler is written in. Names are those of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Language {
    #[default]
    Rust,
    /// JavaScript on QuickJS, with types for TypeScript's checker.
    #[value(alias = "ts")]
    Js,
    Python,
    C,
}

impl Language {
    pub const ALL: [Language; 4] = [Language::Rust, Language::Js, Language::Python, Language::C];

    /// The file whose presence says so.
    pub fn mark(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Js => "package.json",
            Language::Python => "handler.py",
            Language::C => "handler.c",
        }
    }

    /// What the handler in `dir` is written in, if there is one. The order decides where a folder has several of the files: a Rust guest
    /// may keep a script beside it.
    pub fn of(dir: &Path) -> Option<Language> {
        Language::ALL.into_iter().find(|language| dir.join(language.mark()).is_file())
    }

    /// The same, or why it cannot be told.
    pub(super) fn required(dir: &Path) -> Result<Language, BuildError> {
        Language::of(dir).ok_or_else(|| BuildError::NoGuest(dir.to_path_buf()))
    }
}
