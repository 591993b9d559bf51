//! The rules of the house that a reader of one crate cannot see: which crate may use which, where `unsafe` may
//! stand, how large a file may grow.
//!
//! The sources are read as text: what they say is what is tested, not what a build happens to use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate may use only crates of later lines.
const ORDER: &[&[&str]] = &[
    &["server"],
    &["modules", "stream"],
    &["http"],
    &["cache", "upstream"],
    &["net"],
    &["proto", "conf", "os"],
    &["base"],
];
/// The only crate with `unsafe`.
const UNSAFE: &str = "crates/os/";
/// Largest file, lines without its tests.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The crates under `crates`, with the names that their manifests list as dependencies.
fn crates() -> Vec<(String, Vec<String>)> {
    let folders = entries(&root().join("crates"));
    let dependencies = |folder: &PathBuf| dependencies(&text(&folder.join("Cargo.toml")));
    let found: Vec<_> = folders.iter().map(|folder| (name(folder), dependencies(folder))).collect();
    assert!(found.len() > 5, "crates were not found");
    found
}

/// Names in the sections of a manifest that say what a crate is built with. Tests may use what they like.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if is_inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(line[..end].to_owned());
        }
    }
    found
}

/// Sources below some folders, by their path from the root.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            if name(&path) != "target" {
                left.extend(entries(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            found.push((shown, text(&path)));
        }
    }
    found.sort();
    found
}

#[test]
fn crates_use_only_what_stands_to_their_right() {
    let rank = |name: &str| ORDER.iter().position(|names| names.contains(&name));
    for (name, dependencies) in crates() {
        let own = rank(&name).unwrap_or_else(|| panic!("{name} has no place in the order of crates"));
        for used in dependencies.iter().filter_map(|used| Some((used, rank(used)?))) {
            assert!(used.1 > own, "{name} uses {}, which does not stand to its right", used.0);
        }
    }
}

#[test]
fn dependencies_are_found_in_manifests() {
    let check =
        |manifest: &str, expected: &[&str]| assert_eq!(dependencies(manifest), expected, "{manifest}");
    check(
        "[package]\nname = \"x\"\n[dependencies]\nbase.workspace = true\nos = { path = \"\" }\n",
        &["base", "os"],
    );
    check("[dependencies]\n# os\n\n[lints]\nworkspace = true\n", &[]);
    check("[dev-dependencies]\nhttp = \"1\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n", &["libc"]);
}

#[test]
fn no_module_uses_another() {
    let registry = text(&root().join("crates/modules/src/lib.rs"));
    let registered: BTreeSet<&str> = registry
        .split("add::<")
        .skip(1)
        .filter_map(|rest| rest.split_once("::"))
        .map(|(module, _)| module)
        .filter(|module| module.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .collect();
    assert!(registered.len() > 5, "modules were not found");
    for (path, text) in sources(&["crates/modules/src"]) {
        let below = path.trim_start_matches("crates/modules/src/");
        let own = below.split(['/', '.']).next().unwrap_or_default();
        for used in registered.iter().filter(|used| own != "lib" && **used != own) {
            let path_of = format!("crate::{used}::");
            assert!(!text.contains(&path_of), "{path} uses the module {used}: let them meet in http");
        }
    }
}

#[test]
fn unsafe_stands_in_one_crate() {
    for (path, text) in sources(&["crates", "testkit", "bench"]) {
        let is_found = path.starts_with(UNSAFE) || path.ends_with("tests/house.rs") || !has_unsafe(&text);
        assert!(is_found, "{path} has unsafe code");
    }
}

/// Whether the word stands where it opens a block or marks an item, or the lint against it is switched off.
fn has_unsafe(text: &str) -> bool {
    let opens = |rest: &str| {
        let rest = rest.trim_start();
        ["{", "(", "fn ", "impl", "trait ", "extern "].iter().any(|next| rest.starts_with(next))
    };
    let starts_word = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let code = || text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let joined: String = code().flat_map(|line| [line, "\n"]).collect();
    let is_lint_off = code().any(|line| line.contains("unsafe_code") && line.contains("#"));
    is_lint_off
        || joined
            .match_indices("unsafe")
            .any(|(at, word)| starts_word(&joined[..at]) && opens(&joined[at + word.len()..]))
}

#[test]
fn unsafe_is_recognised() {
    let check = |text: &str, expected: bool| assert_eq!(has_unsafe(text), expected, "{text}");
    check("let x = unsafe { f() };", true);
    check("pub unsafe fn f() {}", true);
    check("unsafe impl Send for X {}", true);
    check("unsafe\n{ f() }", true);
    check("#[unsafe(no_mangle)]", true);
    check("#![allow(unsafe_code)]", true);
    check("// unsafe { f() }", false);
    check("reason = \"its successor is unsafe; the socket stays open\"", false);
    check("let unsafe_quote = 1; is_unsafe(x)", false);
}

#[test]
fn files_say_what_they_are_and_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&["crates", "testkit", "bench"]) {
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let is_test = path.contains("/tests") || path.ends_with("tests.rs");
        if lines > LINES_MAX && !is_test {
            wrong.push(format!("{path} has {lines} lines without its tests"));
        }
        if !text.starts_with("//! ") && !is_test {
            wrong.push(format!("{path} does not open with what it does"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_dependency_is_named_with_its_reason() {
    let architecture = text(&root().join("ARCHITECTURE.md"));
    let own: BTreeSet<&str> = ORDER.iter().flat_map(|names| names.iter().copied()).collect();
    let named = [
        "Cargo.toml",
        "testkit/Cargo.toml",
        "testkit/entries/Cargo.toml",
        "bench/Cargo.toml",
        "fuzz/Cargo.toml",
    ];
    let mut manifests: Vec<PathBuf> = named.iter().map(|path| root().join(path)).collect();
    manifests.extend(entries(&root().join("crates")).iter().map(|folder| folder.join("Cargo.toml")));
    for path in manifests {
        for name in dependencies(&text(&path)).iter().filter(|name| !own.contains(name.as_str())) {
            let is_named = architecture.contains(&format!("`{name}`"));
            assert!(is_named, "ARCHITECTURE.md does not name {name} of {}", path.display());
        }
    }
}
