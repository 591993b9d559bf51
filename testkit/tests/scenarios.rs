//! Runs all scenarios on the built binary.
//!
//! One test for all: they are found by listing the folder, and each failure is printed with its name.

use std::path::Path;

use testkit::process::Binary;
use testkit::suite::{Suite, built_binary};

#[test]
fn all_scenarios() {
    let binary = built_binary().unwrap_or_else(|error| panic!("{error}"));
    let binary = Binary::probe(&binary).unwrap_or_else(|error| panic!("{error}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let suite = Suite { folder, binary, oracle: None, jobs: 2, names: Vec::new() };
    let report = suite.run().unwrap_or_else(|error| panic!("{}: {error}", suite.folder.display()));
    println!("{}", report.summary());
    assert!(!report.verdicts.is_empty(), "no scenarios found");
    assert_eq!(report.failed(), 0, "{}", report.summary());
}
