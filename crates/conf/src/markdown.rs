//! The reference of directives as Markdown, made from the same rows that the parser reads.
//!
//! Every documented directive has its line, so what is missing cannot hide.

use std::fmt::Write as _;

use crate::documented::{Documented, Edition};
use crate::row::Status;
use crate::{Row, Schema};

/// The text of `docs/directives.md`: documented directives by module, then those that only this program has.
#[must_use]
pub fn directives_markdown<'a>(
    schema: &Schema,
    documented: impl IntoIterator<Item = &'a Documented>,
) -> String {
    let mut documented: Vec<&Documented> = documented.into_iter().collect();
    documented.sort_by_key(|known| (known.row.module, known.row.name));
    let lines: Vec<Line<'_>> = documented.iter().map(|known| Line::documented(schema, known)).collect();
    let mut own: Vec<&'static Row> = schema.rows().filter(|row| !is_documented(row, &documented)).collect();
    own.sort_by_key(|row| (row.module, row.name));

    let works = lines.iter().filter(|line| line.status == Status::Works).count();
    let mut out = String::from("# Directives\n\n");
    let _ = writeln!(out, "Of {} directives that nginx documents or knows, {works} work.\n", lines.len());
    table(&mut out, &lines);
    if !own.is_empty() {
        out.push_str("\n## Beyond nginx\n\n");
        table(&mut out, &own.iter().map(|row| Line::own(row)).collect::<Vec<_>>());
    }
    out
}

struct Line<'a> {
    row: &'a Row,
    edition: &'static str,
    status: Status,
    default: &'a str,
    doc: &'a str,
}

impl<'a> Line<'a> {
    fn documented(schema: &Schema, known: &'a Documented) -> Self {
        let edition = known.edition.as_str();
        let row = &known.row;
        if row.name == crate::row::INCLUDE.name {
            let doc = "reads other files in its place";
            return Self { row, edition, status: Status::Works, default: "", doc };
        }
        match built(schema, row) {
            Some(built) => {
                Self { row, edition, status: built.status, default: built.default, doc: built.doc }
            }
            None => Self { row, edition, status: Status::NotYet, default: "", doc: "" },
        }
    }

    fn own(row: &'a Row) -> Self {
        Self { row, edition: "own", status: row.status, default: row.default, doc: row.doc }
    }
}

/// The registered row that stands for a documented one: of the same name, in some of its contexts.
/// Where several modules share both, the same module's row is preferred.
fn built(schema: &Schema, known: &Row) -> Option<&'static Row> {
    let same = |row: &&Row| row.name == known.name && row.contexts.has(known.contexts);
    schema.rows().filter(same).max_by_key(|row| row.module == known.module)
}

fn is_documented(row: &Row, documented: &[&Documented]) -> bool {
    documented.iter().any(|known| known.row.name == row.name && known.row.contexts.has(row.contexts))
}

fn table(out: &mut String, lines: &[Line<'_>]) {
    out.push_str("| directive | module | edition | status | contexts | default | what it does |\n");
    out.push_str("|---|---|---|---|---|---|---|\n");
    for Line { row, edition, status, default, doc } in lines {
        let status = status_text(*status);
        let default = if default.is_empty() { String::new() } else { format!("`{}`", cell(default)) };
        let (module, contexts) = (row.module, row.contexts);
        let _ = writeln!(
            out,
            "| `{}` | {module} | {edition} | {status} | {contexts} | {default} | {} |",
            row.name,
            cell(doc)
        );
    }
}

fn status_text(status: Status) -> String {
    match status {
        Status::Works => "works".to_owned(),
        Status::NotYet => "not yet".to_owned(),
        Status::Refused(reason) => format!("refused: {}", cell(reason)),
        Status::NoEffect(reason) => format!("accepted without effect: {}", cell(reason)),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

impl Edition {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open source",
            Self::Commercial => "commercial",
        }
    }
}

#[cfg(test)]
mod tests;
