use crate::testing::{WORKING, parse_text};
use crate::{Bufs, Directive, Error};

/// The first directive of a text, for setters to look at.
fn directive(text: &str) -> Directive {
    let (result, _) = parse_text(&WORKING, &format!("http {{ types {{ {text}; }} }}"));
    result.expect("a good text").directives[0].body()[0].body()[0].clone()
}

fn check<T: std::fmt::Debug>(text: &str, setter: fn(&Directive) -> Result<T, Error>, expected: &str) {
    let found = match setter(&directive(text)) {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn flags_and_numbers() {
    check("x on", Directive::flag, "true");
    check("x OFF", Directive::flag, "false");
    check("x 1", Directive::flag, "invalid value \"1\" in \"x\" directive, it must be \"on\" or \"off\"");
    check("x", Directive::flag, "invalid number of arguments in \"x\" directive");
    check("x 0", Directive::number, "0");
    check("x 9223372036854775807", Directive::number, "9223372036854775807");
    check("x 9223372036854775808", Directive::number, "\"x\" directive invalid number");
    check("x -1", Directive::number, "\"x\" directive invalid number");
    check("x +1", Directive::number, "\"x\" directive invalid number");
    check("x ''", Directive::number, "\"x\" directive invalid number");
    check("x 2", |d| d.number_between(1, 3), "2");
    check("x 4", |d| d.number_between(1, 3), "value must be between 1 and 3");
    check("x 0", |d| d.number_at_least(1), "value must be equal to or greater than 1");
}

#[test]
fn sizes_and_times() {
    check("x 8k", Directive::size, "8192");
    check("x 1g", Directive::size, "\"x\" directive invalid value");
    check("x 1g", Directive::offset, "1073741824");
    check("x 1m30s", Directive::time_ms, "90000");
    check("x 30ms", Directive::time_sec, "\"x\" directive invalid value");
    check("x 1h", Directive::time_sec, "3600");
    check("x y", Directive::time_ms, "\"x\" directive invalid value");
    check("x 8 4k", Directive::bufs, &format!("{:?}", Bufs { number: 8, size: 4096 }));
    check("x 0 4k", Directive::bufs, "\"x\" directive invalid value");
    check("x 8 0", Directive::bufs, "\"x\" directive invalid value");
    check("x 8", Directive::bufs, "invalid number of arguments in \"x\" directive");
}

#[test]
fn choices() {
    let one = |d: &Directive| d.one_of(&[("any", 1), ("all", 2)]);
    check("x ALL", one, "2");
    check("x some", one, "invalid value \"some\"");
    let bits = |d: &Directive| {
        let mut warnings = Vec::new();
        let bits = d.bits(0, &[("error", 1), ("timeout", 2), ("http_502", 4)], &mut warnings)?;
        Ok((bits, warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
    };
    check("x error http_502", bits, "(5, \"\")");
    check("x error Error", bits, "(1, \"duplicate value \\\"Error\\\"\")");
    check("x error nothing", bits, "invalid value \"nothing\"");
}

#[test]
fn parameters() {
    let d = directive("x max_fails=3 Down");
    assert_eq!(d.args[0].after("max_fails=").and_then(crate::parse_number), Some(3));
    assert_eq!(d.args[0].after("weight="), None);
    assert!(d.args[1].is_ignoring_case("down") && !d.args[1].is("down"));
}
