//! The committed reference of directives is what the program prints.
//!
//! The message of a failure tells the command that writes it anew.

use std::path::Path;
use std::process::Command;

#[test]
fn the_reference_is_current() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("--print-directives")
        .output()
        .expect("the program runs");
    assert!(output.status.success());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/directives.md");
    let committed = std::fs::read_to_string(path).expect("docs/directives.md");
    let printed = String::from_utf8_lossy(&output.stdout);
    let differs = printed.lines().zip(committed.lines()).find(|(now, then)| now != then);
    let hint = "docs/directives.md is not current: cargo run -q -- --print-directives > docs/directives.md";
    assert_eq!(differs, None, "{hint}");
    assert_eq!(printed.len(), committed.len(), "{hint}");
}
