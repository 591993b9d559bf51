//! The commands and their parameters as a table, and what is wrong with one that does not fit it.

use super::parse::{Command, PARAMS_MAX, Param, shown};

/// A command of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Include,
    Echo,
    Config,
    Set,
    If,
    Elif,
    Else,
    Endif,
    Block,
    Endblock,
}

/// Where in an `if` a page is, and from where on a command may stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Branch {
    /// In none.
    #[default]
    None,
    /// Behind `if` or `elif`.
    If,
    /// Behind `else`.
    Else,
}

struct Row {
    name: Name,
    text: &'static [u8],
    /// Names of parameters, and whether the command is nothing without.
    params: &'static [(&'static [u8], Need)],
    /// The last branch in which it may stand; `None`: anywhere.
    branch: Branch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Optional,
    Mandatory,
}

use Need::{Mandatory, Optional};

const EXPR: &[(&[u8], Need)] = &[(b"expr", Mandatory)];

const INCLUDE: &[(&[u8], Need)] = &[
    (b"virtual", Optional),
    (b"file", Optional),
    (b"wait", Optional),
    (b"set", Optional),
    (b"stub", Optional),
];

static ROWS: [Row; 10] = [
    Row { name: Name::Include, text: b"include", params: INCLUDE, branch: Branch::None },
    Row {
        name: Name::Echo,
        text: b"echo",
        params: &[(b"var", Mandatory), (b"default", Optional), (b"encoding", Optional)],
        branch: Branch::None,
    },
    Row {
        name: Name::Config,
        text: b"config",
        params: &[(b"errmsg", Optional), (b"timefmt", Optional)],
        branch: Branch::None,
    },
    Row {
        name: Name::Set,
        text: b"set",
        params: &[(b"var", Mandatory), (b"value", Mandatory)],
        branch: Branch::None,
    },
    Row { name: Name::If, text: b"if", params: EXPR, branch: Branch::None },
    Row { name: Name::Elif, text: b"elif", params: EXPR, branch: Branch::If },
    Row { name: Name::Else, text: b"else", params: &[], branch: Branch::If },
    Row { name: Name::Endif, text: b"endif", params: &[], branch: Branch::Else },
    Row { name: Name::Block, text: b"block", params: &[(b"name", Mandatory)], branch: Branch::None },
    Row { name: Name::Endblock, text: b"endblock", params: &[], branch: Branch::None },
];

/// The command of this name.
pub(super) fn find(text: &[u8]) -> Option<Name> {
    ROWS.iter().find(|row| row.text == text).map(|row| row.name)
}

impl Name {
    fn row(self) -> &'static Row {
        // The table has a row for each.
        ROWS.iter().find(|row| row.name == self).unwrap_or(&ROWS[0])
    }

    /// Whether it belongs to an `if`.
    pub fn is_conditional(self) -> bool {
        self.row().branch != Branch::None
    }
}

/// Whether a command may stand where it does and has the parameters that it takes.
///
/// # Errors
/// The sentence for the log.
pub(super) fn check(name: Name, command: &Command, branch: Branch) -> Result<(), String> {
    let row = name.row();
    let text = shown(&command.name);
    if name.is_conditional() && (branch == Branch::None || branch > row.branch) {
        return Err(format!("invalid context of SSI command: \"{text}\""));
    }
    if command.params.len() > PARAMS_MAX {
        return Err(format!("too many SSI command parameters: \"{text}\""));
    }
    for (at, param) in command.params.iter().enumerate() {
        let own = shown(&param.name);
        if !row.params.iter().any(|(known, _)| *known == param.name) {
            return Err(format!("invalid parameter name: \"{own}\" in \"{text}\" SSI command"));
        }
        if command.params.iter().take(at).any(|other| other.name == param.name) {
            return Err(format!("duplicate \"{own}\" parameter in \"{text}\" SSI command"));
        }
    }
    for (known, need) in row.params {
        if *need == Mandatory && command.value(known).is_none() {
            let known = shown(known);
            return Err(format!("mandatory \"{known}\" parameter is absent in \"{text}\" SSI command"));
        }
    }
    Ok(())
}

impl Command {
    /// The value of a parameter.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.params.iter().find(|param| param.name == name).map(|param| &*param.value)
    }

    /// The command as it stands in a page.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<!--#");
        out.extend_from_slice(&self.name);
        for Param { name, value } in &self.params {
            out.push(b' ');
            out.extend_from_slice(name);
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(value);
            out.push(b'"');
        }
        out.extend_from_slice(b" -->");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str, params: &[(&str, &str)]) -> Command {
        let param = |(name, value): &(&str, &str)| Param {
            name: name.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
        };
        Command { name: name.as_bytes().to_vec(), params: params.iter().map(param).collect() }
    }

    #[test]
    fn every_name_has_a_row_of_its_own() {
        for row in &ROWS {
            assert_eq!(find(row.text), Some(row.name));
            assert_eq!(row.name.row().text, row.text);
        }
        assert_eq!(find(b"exec"), None);
    }

    #[test]
    fn what_is_wrong_with_a_command() {
        let check = |text: &str, params: &[(&str, &str)], branch, expected: Result<(), &str>| {
            let name = find(text.as_bytes()).expect("a command");
            let found = super::check(name, &command(text, params), branch);
            assert_eq!(found, expected.map_err(str::to_owned), "{text} {params:?}");
        };
        check("echo", &[("var", "a")], Branch::None, Ok(()));
        check(
            "echo",
            &[],
            Branch::None,
            Err("mandatory \"var\" parameter is absent in \"echo\" SSI command"),
        );
        check(
            "echo",
            &[("var", "a"), ("var", "b")],
            Branch::None,
            Err("duplicate \"var\" parameter in \"echo\" SSI command"),
        );
        check(
            "echo",
            &[("v", "a")],
            Branch::None,
            Err("invalid parameter name: \"v\" in \"echo\" SSI command"),
        );
        check("else", &[], Branch::None, Err("invalid context of SSI command: \"else\""));
        check("else", &[], Branch::If, Ok(()));
        check("else", &[], Branch::Else, Err("invalid context of SSI command: \"else\""));
        check("endif", &[], Branch::Else, Ok(()));
        let many = vec![("var", "a"); PARAMS_MAX + 1];
        check("echo", &many, Branch::None, Err("too many SSI command parameters: \"echo\""));
    }

    #[test]
    fn a_command_is_written_as_it_was() {
        let mut out = Vec::new();
        command("set", &[("var", "a"), ("value", "b")]).write(&mut out);
        assert_eq!(out, b"<!--#set var=\"a\" value=\"b\" -->");
    }
}
