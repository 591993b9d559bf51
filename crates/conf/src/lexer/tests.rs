use super::*;

fn tokens(text: &[u8]) -> String {
    let text = text.into();
    let mut lexer = Lexer::new(&text, FileId::DEFAULT, Origin::File);
    let mut out = Vec::new();
    loop {
        match lexer.next_token() {
            Err(error) => {
                out.push(format!("! {error}"));
                break;
            }
            Ok(Token::TextEnd(_)) => break,
            Ok(Token::BlockEnd(_)) => out.push("}".into()),
            Ok(Token::Statement(statement)) => {
                let words = std::iter::once(&statement.name).chain(&statement.args);
                let words: Vec<String> = words.map(|word| format!("<{}>", word.as_str())).collect();
                out.push(words.concat() + if statement.end == End::Brace { "{" } else { ";" });
            }
        }
    }
    out.join(" ")
}

#[test]
fn words() {
    let check = |text: &str, expected: &str| assert_eq!(tokens(text.as_bytes()), expected, "{text}");
    check("", "");
    check(" \t\r\n", "");
    check("# all", "");
    check("a;", "<a>;");
    check("a b\tc\rd\ne;", "<a><b><c><d><e>;");
    check("a{b;}", "<a>{ <b>; }");
    check("a #b\nc;", "<a><c>;");
    check("a#b c;", "<a#b><c>;");
    check("a}b;", "<a}b>;");
    check("a 'b c' \"d e\";", "<a><b c><d e>;");
    check("a '' \"\";", "<a><><>;");
    check("a 'b\"c' \"d'e\";", "<a><b\"c><d'e>;");
    check("a b'c d'e;", "<a><b'c><d'e>;");
    check("a 'b;{}#';", "<a><b;{}#>;");
    check("a 'b\nc';", "<a><b\nc>;");
    check("if ($a = 'b') {", "<if><($a><=><b><)>{");
    check("if ($a = 'b'){", "<if><($a><=><b><)>{");
    check("if ($a = 'b')c;", "<if><($a><=><b><)c>;");
    check("a ${b} $c{;", "<a><${b}><$c>{ ! unexpected \";\"");
    check("a ${b}{", "<a><${b}>{");
    check("a x${b}y;", "<a><x${b}y>;");
    check("a $${b} c;", "<a><$${b}><c>;");
    check("a ${{b} c;", "<a><${{b}><c>;");
    check("a $\\{b;", "<a><$\\{b>;");
}

#[test]
fn escapes() {
    let check = |text: &str, expected: &str| assert_eq!(tokens(text.as_bytes()), expected, "{text}");
    check(r#"a \"b;"#, "<a><\"b>;");
    check(r"a \'b;", "<a><'b>;");
    check(r"a \\b;", r"<a><\b>;");
    check(r"a b\tc\rd\ne;", "<a><b\tc\rd\ne>;");
    check(r"a \.php$;", r"<a><\.php$>;");
    check(r"a \;b;", r"<a><\;b>;");
    check(r"a b\ c;", r"<a><b\ c>;");
    check(r"a \{b\};", r"<a><\{b\}>;");
    check(r#"a "b\"c";"#, "<a><b\"c>;");
    check(r#"a "b\\";"#, r"<a><b\>;");
    check(r#"a "\d+\t";"#, "<a><\\d+\t>;");
    check("a \\\nb;", "<a><\\\nb>;");
    check("a \\#b;", "<a><\\#b>;");
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    assert_eq!(tokens(b"a \xff\xfe;"), "<a><\u{fffd}\u{fffd}>;");
    assert_eq!(tokens(b"a \0;"), "<a><\0>;");
}
