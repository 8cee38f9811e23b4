//! Which row of docs/conformance.md is held by which test. A row is held by a test whose name carries it (`ic_164_…`, `ic_234_235_…`)
//! or by a line of `rows.tsv` (row, test; `refused` as a third: it shows how the node refuses what it does not do yet).
//! `HOOKSWITCH_UPDATE=1 cargo test -p hookswitch-tests rows` writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Row -> what holds it: a test's name, with a word on those that show a refusal.
type Held = BTreeMap<String, BTreeSet<String>>;

const PREFIXES: [&str; 7] = ["ic", "mg", "ac", "sw", "oz", "ur", "sm"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | "data") {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Names of functions that carry a test attribute.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.contains("::test]") || line.contains("::test(");
            continue;
        }
        let name = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")).and_then(|rest| rest.split(['(', '<']).next());
        if let (true, Some(name)) = (is_test, name) {
            names.push(name.to_owned());
        }
        if !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

/// The rows that a test's name carries: a prefix, then numbers of three digits.
fn rows_of(test: &str) -> Vec<String> {
    let mut parts = test.split('_');
    let Some(prefix) = parts.next().filter(|p| PREFIXES.contains(p)) else { return Vec::new() };
    let is_row = |part: &&str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
    parts.take_while(is_row).map(|number| format!("{}-{number}", prefix.to_uppercase())).collect()
}

fn all_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    files.iter().flat_map(|path| tests_in(&fs::read_to_string(path).expect("sources are UTF-8"))).collect()
}

/// A line of `rows.tsv` below its heading.
struct Line {
    row: String,
    test: String,
    refused: bool,
}

fn table() -> Vec<Line> {
    let text = read("tests/rows.tsv");
    assert!(text.starts_with("row\ttest\n"), "rows.tsv begins with its heading");
    text.lines()
        .skip(1)
        .map(|line| match *line.split('\t').collect::<Vec<_>>() {
            [row, test] => Line { row: row.to_owned(), test: test.to_owned(), refused: false },
            [row, test, "refused"] => Line { row: row.to_owned(), test: test.to_owned(), refused: true },
            _ => panic!("rows.tsv: `{line}` is not ROW<tab>TEST, or that and <tab>refused"),
        })
        .collect()
}

fn held() -> Held {
    let mut held = Held::new();
    for test in all_tests() {
        for row in rows_of(&test) {
            held.entry(row).or_default().insert(test.clone());
        }
    }
    for Line { row, test, refused } in table() {
        let held = held.entry(row).or_default();
        if refused {
            // Its name may say which row it is about.
            held.remove(&test);
        }
        held.insert(if refused { format!("{test} (refused)") } else { test });
    }
    held
}

/// `IC-124,126-128` as rows.
fn expand(text: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (prefix, numbers) = line.split_once('-').expect("PREFIX-NUMBERS");
        for item in numbers.split(',') {
            let (from, to) = item.split_once('-').unwrap_or((item, item));
            let number = |text: &str| text.trim().parse::<u32>().unwrap_or_else(|_| panic!("`{item}` is no row number"));
            rows.extend((number(from)..=number(to)).map(|n| format!("{prefix}-{n:03}")));
        }
    }
    rows
}

/// The table's rows: name and what its last cell should say.
fn cell(held: &Held, row: &str) -> String {
    held.get(row).map_or_else(|| "-".into(), |tests| tests.iter().map(|test| quoted(test)).collect::<Vec<_>>().join(", "))
}

fn quoted(test: &str) -> String {
    let (name, word) = test.split_once(' ').map_or((test, String::new()), |(name, word)| (name, format!(" {word}")));
    format!("`{name}`{word}")
}

fn row_of_line(line: &str) -> Option<&str> {
    let row = line.strip_prefix("| ")?.split(' ').next()?;
    let (prefix, number) = row.split_once('-')?;
    (PREFIXES.contains(&prefix.to_lowercase().as_str()) && number.len() == 3).then_some(row)
}

#[test]
fn rows_required_have_a_test() {
    let held = held();
    let required = expand(&read("tests/rows-required.txt"));
    for row in &required {
        println!("{row} {}", cell(&held, row));
    }
    let missing: Vec<String> = required.into_iter().filter(|row| !held.contains_key(row)).collect();
    assert!(missing.is_empty(), "no test holds {}", missing.join(", "));
}

#[test]
fn rows_in_the_table_name_tests_that_exist() {
    let tests = all_tests();
    let document = read("docs/conformance.md");
    for Line { row, test, .. } in table() {
        assert!(tests.contains(&test), "rows.tsv: {row} names {test}, which does not exist");
        assert!(document.lines().any(|line| row_of_line(line) == Some(&row)), "rows.tsv: {row} is no row of docs/conformance.md");
    }
}

#[test]
fn rows_in_the_document_say_what_holds_them() {
    let held = held();
    let document = read("docs/conformance.md");
    let mut rows = BTreeSet::new();
    let current: Vec<String> = document
        .lines()
        .map(|line| match row_of_line(line) {
            None => line.to_owned(),
            Some(row) => {
                assert!(rows.insert(row.to_owned()), "{row} twice in docs/conformance.md");
                let head = line.trim_end_matches('|').trim_end().rsplit_once(" | ").expect("a row has cells").0;
                format!("{head} | {} |", cell(&held, row))
            }
        })
        .collect();
    for row in held.keys() {
        assert!(rows.contains(row), "a test names {row}, which is no row of docs/conformance.md");
    }
    let current = current.join("\n") + "\n";
    if std::env::var_os("HOOKSWITCH_UPDATE").is_some() {
        fs::write(root().join("docs/conformance.md"), current).expect("the document can be written");
        return;
    }
    for (is, should) in document.lines().zip(current.lines()) {
        assert_eq!(is, should, "docs/conformance.md is not up to date: HOOKSWITCH_UPDATE=1 cargo test -p hookswitch-tests rows");
    }
}

#[test]
fn rows_are_read_from_names() {
    assert_eq!(rows_of("ic_164_unknown_action_raises_alarm"), ["IC-164"]);
    assert_eq!(rows_of("ic_234_235_timeouts"), ["IC-234", "IC-235"]);
    assert_eq!(rows_of("ur_019_digit_is_cut_100_ms"), ["UR-019"]);
    assert_eq!(rows_of("icy_164_x"), Vec::<String>::new());
    assert_eq!(expand("# a comment\nIC-124,126-128\n"), ["IC-124", "IC-126", "IC-127", "IC-128"]);
    assert_eq!(tests_in("#[test]\n// why\nfn a() {}\nfn b() {}\n#[should_panic]\n#[tokio::test]\nasync fn c() {}"), ["a", "c"]);
}
