use crate::parse::malformed::{Case, HTTP, LOCATION, MAIN, SERVER};
use crate::testing::{Memory, PREFIX, WORKING, outline, parse_files, parse_text};
use crate::{Arity, Contexts, Level, Row, Schema, Style};

fn files(text: &str) -> Memory {
    Memory::default()
        .with("t.conf", text.as_bytes())
        .with("inc/bad.conf", b"user a;\nbad_directive;\n")
        .with("inc/good.conf", b"env A;\n")
        .with("inc/open.conf", b"events {\n")
        .with("inc/close.conf", b"\n}\n")
        .with("inc/half.conf", b"user\n")
        .with("inc/deep.conf", b"\ninclude inc/bad.conf;\n")
        .with("inc/conn.conf", b"accept_mutex on;\n")
}

fn message(text: &str, globals: Option<&str>, style: Style) -> String {
    let (result, sources) = parse_files(&WORKING, files(text), globals);
    let message = result.err().map(|error| error.render(&sources, style));
    message.unwrap_or_else(|| "ok".into()).replace(PREFIX, "")
}

fn check_all(before: &str, cases: &[Case], after: &str) {
    for (text, expected) in cases {
        let whole = format!("{before}{text}{after}");
        assert_eq!(message(&whole, None, Style::Plain), *expected, "{whole}");
    }
}

#[test]
fn malformed_texts() {
    check_all("", MAIN, "");
    check_all("events{}\nhttp {\n", HTTP, "\n}\n");
    check_all("events{}\nhttp {\nserver {\n", SERVER, "\n}\n}\n");
    check_all("events{}\nhttp {\nserver {\nlocation / {\n", LOCATION, "\n}\n}\n}\n");
}

#[test]
fn parameters_and_comments_end_within_the_window() {
    let check = |text: String, expected: &str| assert_eq!(message(&text, None, Style::Plain), expected);
    let unknown = "unknown directive \"x\" in t.conf";
    let a = |count| "a".repeat(count);
    check(format!("pid {};x;", a(4095)), &format!("{unknown}:1"));
    check(format!("pid {};", a(4096)), "too long parameter \"aaaaaaaaaa...\" started in t.conf:1");
    check(format!("pid \"{}\";x;", a(4094)), &format!("{unknown}:1"));
    check(format!("pid \"{}\";x;", a(4095)), "too long parameter \"aaaaaaaaaa...\" started in t.conf:1");
    let quoted = "too long parameter, probably missing terminating \"\"\" character in t.conf:1";
    check(format!("pid \"{}\";", a(4096)), quoted);
    let lines = "too long parameter, probably missing terminating \"'\" character in t.conf:3";
    check(format!("\n\npid '{}';", "a\n".repeat(3000)), lines);
    check(format!("#{}\nx;", a(4094)), &format!("{unknown}:2"));
    check(format!("#{}\nx;", a(4095)), "too long parameter \"#aaaaaaaaa...\" started in t.conf:1");
    check(format!("#{}", a(4095)), "ok");
    check(format!("{}x;", " ".repeat(9000)), &format!("{unknown}:1"));
    check(format!("{}x;", "\n".repeat(9000)), &format!("{unknown}:9001"));
    check(format!("{}x;", "# a\n".repeat(2000)), &format!("{unknown}:2001"));
    check(format!("pid \"{}\";", "a\\\"".repeat(1500)), quoted);
    check(format!("x \"{}\"b;", a(4094)), "unexpected \"b\" in t.conf:1");
    check(format!("x \"{}\"b;", a(4095)), "too long parameter \"aaaaaaaaaa...\" started in t.conf:1");
}

#[test]
fn globals_come_first_and_have_no_lines() {
    let check = |globals, text, expected| assert_eq!(message(text, Some(globals), Style::Plain), expected);
    check("pid a;", "", "ok");
    check("", "pid a;", "ok");
    check("pid a; daemon off", "", "unexpected end of parameter, expecting \";\" in command line");
    check("pid a b;", "x;", "invalid number of arguments in \"pid\" directive in command line");
    check("\n\nx;", "y;", "unknown directive \"x\" in command line");
    check("events {}", "", "block directives are not supported in -g option in command line");
    check("}", "", "unexpected \"}\" in command line");
    check("pid a;", "\npid b;", "\"pid\" directive is duplicate in t.conf:2");
    check(
        "daemon maybe;",
        "",
        r#"invalid value "maybe" in "daemon" directive, it must be "on" or "off" in command line"#,
    );
}

#[test]
fn includes_take_the_place_of_their_directive() {
    let check = |text: &str, extra: &[(&str, &str)], expected: &str| {
        let memory = extra.iter().fold(files(text), |files, (name, text)| files.with(name, text.as_bytes()));
        let (result, sources) = parse_files(&WORKING, memory, None);
        let found = match result {
            Ok(tree) => outline(&tree.directives),
            Err(error) => error.render(&sources, Style::Plain).replace(PREFIX, ""),
        };
        assert_eq!(found, expected, "{text}");
    };
    check("env A; include inc/good.conf; env B;", &[], "<env><A>;<env><A>;<env><B>");
    check("events { include inc/conn.conf; }", &[], "<events>{<accept_mutex><on>}");
    check("include none/*.conf; env A;", &[], "<env><A>");
    check("include d/*.conf;", &[("d/b.conf", "env B;"), ("d/a.conf", "env A;")], "<env><A>;<env><B>");
    let types = [("mime", "types { a/b c d; }"), ("inner", "x/y z;\n")];
    check(
        "http { include mime; types { include inner; } }",
        &types,
        "<http>{<types>{<a/b><c><d>};<types>{<x/y><z>}}",
    );
    check("http { map $a $b { include inner; } }", &types, "<http>{<map><$a><$b>{<x/y><z>}}");
    check("include t.conf;", &[], "\"t.conf\" includes itself in t.conf:1");
    check("\ninclude *.conf;", &[], "\"t.conf\" includes itself in t.conf:2");
    check("include a;", &[("a", "include b;"), ("b", "\ninclude a;")], "\"a\" includes itself in b:2");
    let chain: Vec<(String, String)> =
        (0..70).map(|n| (format!("f{n}"), format!("include f{};", n + 1))).collect();
    let chain: Vec<(&str, &str)> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    check("include f0;", &chain, "more than 64 nested includes in f62:1");
}

#[test]
fn blocks_nest_to_a_limit() {
    let text = format!("events{{}}\nhttp {{ server {{ {}", "location /a {\n".repeat(100));
    assert_eq!(message(&text, None, Style::Plain), "more than 64 nested blocks in t.conf:64");
}

#[test]
fn words_and_places_of_a_tree() {
    let (result, sources) = parse_text(&WORKING, "http {\n  log_format a\n    \"b c\"\n    d;\n}\n");
    let tree = result.expect("a good text");
    let http = &tree.directives[0];
    let format = &http.body()[0];
    assert_eq!((http.name.end_line, http.close().map(|place| place.line)), (1, Some(5)));
    assert_eq!(format.name.end_line, 4);
    let word = &format.args[1];
    assert_eq!((word.as_str().as_ref(), word.quoted), ("b c", true));
    assert_eq!((word.place.line, word.place.column, word.end_line), (3, 5, 4));
    let at = |error: crate::Error| error.render(&sources, Style::Plain).replace(PREFIX, "");
    assert_eq!(at(crate::Error::at(word, "bad")), "bad in t.conf:4");
    assert_eq!(at(crate::Error::on(format, "is bad")), "\"log_format\" directive is bad in t.conf:4");
    assert_eq!(at(crate::Error::at_close(http, "bad")), "bad in t.conf:5");
    assert_eq!(at(crate::Error::bare("bad")), "bad");
}

#[test]
fn statuses() {
    static ROWS: &[Row] = &Row::of(
        "ngx_core_module",
        [
            Row::new("pid", Contexts::MAIN, Arity::ONE).default("a").doc("d"),
            Row::new("daemon", Contexts::MAIN, Arity::FLAG).no_effect("there is none"),
            Row::new("env", Contexts::MAIN, Arity::ONE).many().no_effect("there is none"),
            Row::new("user", Contexts::MAIN, Arity::TAKE12).not_yet(),
            Row::new("timer_resolution", Contexts::MAIN, Arity::ONE).refused("time is exact"),
            Row::new("events", Contexts::MAIN, Arity::NOARGS).block(Contexts::EVENTS).once(),
        ],
    );
    let schema = Schema::new(ROWS);
    let check = |text, expected: &str| {
        let (result, sources) = parse_text(&schema, text);
        let found = match result {
            Ok(tree) => {
                assert!(tree.notices.iter().all(|notice| notice.level == Level::Notice));
                let notices = tree.notices.iter().map(|notice| notice.render(&sources, Style::Plain));
                notices.collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.render(&sources, Style::Plain),
        };
        assert_eq!(found.replace(PREFIX, ""), expected, "{text}");
    };
    check("pid a; events {}", "");
    check("env a; env b;", "the \"env\" directive has no effect: there is none in t.conf:1");
    check("user a;", "directive \"user\" is not supported yet in t.conf:1");
    check("user a b c;", "invalid number of arguments in \"user\" directive in t.conf:1");
    check(
        "\ntimer_resolution 1;",
        "directive \"timer_resolution\" is not supported: time is exact in t.conf:2",
    );
    check(
        "daemon maybe;",
        r#"invalid value "maybe" in "daemon" directive, it must be "on" or "off" in t.conf:1"#,
    );
    check("events {} events {}", "\"events\" directive is duplicate in t.conf:1");
    check("stream {}", "directive \"stream\" is not supported yet in t.conf:1");
    check("stream;", "directive \"stream\" has no opening \"{\" in t.conf:1");
    check("proxy_pass a;", "\"proxy_pass\" directive is not allowed here in t.conf:1");
    check("proxy_pas a;", "unknown directive \"proxy_pas\" in t.conf:1");
    check("http { server {} }", "directive \"http\" is not supported yet in t.conf:1");
}

#[test]
fn hints() {
    let check = |text, expected: &str| {
        let (result, _) = parse_text(&WORKING, text);
        let hint = result.err().and_then(|error| error.hint).map(|hint| hint.to_string());
        assert_eq!(hint.unwrap_or_default(), expected, "{text}");
    };
    check("http { server { ssl on; } }", "nginx 1.25.1 removed it; write `listen 443 ssl` instead");
    check("usr a;", "did you mean `user`?");
    check("http { server { location / { proxy_pas a; } } }", "did you mean `proxy_pass`?");
    check("http { server { lisetn 80; } }", "did you mean `listen`?");
    check("http { server { worker_conections 80; } }", "did you mean `worker_connections`?");
    check("qwertyuiop;", "");
    check("\u{feff}user a;", "the file begins with a byte order mark; save it without");
    check(
        "proxy_pass a;",
        "`proxy_pass` belongs in: location, if in location, limit_except, server in stream",
    );
    check("http { proxy_pass a; }", "`proxy_pass` belongs in: location, if in location, limit_except");
    check("http { worker_connections 1; }", "`worker_connections` belongs in: events");
    check("pid a\nuser b;", "add a `;` at the end of line 1");
    check("http {\nserver {\nserver_name a\n\nlocation / {\n}}}", "add a `;` at the end of line 3");
    check("events {\nworker_connections 1\n}", "add a `;` at the end of line 2");
    check("events {}\npid a\n\n", "add a `;` at the end of line 2");
    check("http {\n  server {\n    listen 1;\n}\n", "`server` opened at line 2 has no closing `}`");
    check("http {\n  server {\n    listen 1;\n  }\n", "`http` opened at line 1 has no closing `}`");
    let server =
        "http {\n  server {\n    location / {\n      root a;\n  }\n  server {\n    listen 1;\n  }\n}\n";
    check(server, "`location` opened at line 3 has no closing `}`");
    check("pid \"a;\nuser b;\n", "the \" opened at line 1 is not closed");
}

#[test]
fn what_a_terminal_shows() {
    let check =
        |text: &str, expected: &str| assert_eq!(message(text, None, Style::Terminal), expected, "{text}");
    check(
        "http {\n\tserver {\n\t\tlisten \"80\" x;\n\t\tlisenn 80;\n\t}\n}",
        "unknown directive \"lisenn\" in t.conf:4\n   |\n 4 | \t\tlisenn 80;\n   | \t\t^^^^^^ did you mean `listen`?",
    );
    check(
        "include inc/bad.conf;",
        "unknown directive \"bad_directive\" in inc/bad.conf:2\n   |\n 2 | bad_directive;\n   | ^^^^^^^^^^^^^\n   = included from t.conf:1",
    );
    check(
        "x\u{1b}[1m;",
        "unknown directive \"x\u{1b}[1m\" in t.conf:1\n   |\n 1 | x\u{fffd}[1m;\n   | ^^^^^",
    );
}

#[test]
fn every_file_is_dumped_once_in_the_order_of_reading() {
    let (result, sources) =
        parse_files(&WORKING, files("include inc/good.conf;\ninclude inc/good.conf;\n"), Some("pid a;"));
    assert!(result.is_ok());
    let mut out = Vec::new();
    sources.dump(&mut out).expect("a vector takes all");
    let expected = "# configuration file t.conf:\ninclude inc/good.conf;\ninclude inc/good.conf;\n\n# configuration file inc/good.conf:\nenv A;\n\n";
    assert_eq!(String::from_utf8_lossy(&out).replace(PREFIX, ""), expected);
}

#[test]
fn a_default_reads_as_if_it_were_written() {
    static ROWS: &[Row] = &Row::of(
        "ngx_http_x_module",
        [
            Row::new("x", Contexts::HTTP, Arity::TAKE12).default("8 4k"),
            Row::new("y", Contexts::HTTP, Arity::ONE),
            Row::new("z", Contexts::HTTP, Arity::MORE1).default("\"a b\" c"),
        ],
    );
    let default = |row| crate::Directive::from_default(row).expect("a default that lexes");
    let x = default(&ROWS[0]).expect("a default");
    assert_eq!(x.bufs().expect("buffers").size, 4096);
    assert_eq!(outline(&[default(&ROWS[2]).expect("a default")]), "<z><a b><c>");
    assert!(default(&ROWS[1]).is_none());
    let message = x.flag().expect_err("no flag").render(&crate::Sources::new(), Style::Plain);
    assert_eq!(
        message,
        r#"invalid value "8" in "x" directive, it must be "on" or "off" in the default of a directive"#
    );
}

#[test]
fn no_text_makes_the_parser_fail_otherwise_than_by_an_error() {
    const PIECES: [&str; 20] = [
        "pid", "env", "events", "http", "server", "{", "}", ";", "\"", "'", "\\", "$", "${", ")", "#", "\n",
        " ", "a", "\r", "types",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..seed % 24 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push_str(PIECES[usize::try_from(seed % 20).unwrap_or_default()]);
        }
        seed = seed.wrapping_add(1);
        let rendered = message(&text, Some(&text), Style::Terminal);
        assert!(!rendered.is_empty());
    }
}
