//! Adds to a scenario's configuration what every run needs: pid, logs, temporary folders, events.
//!
//! It adds behind the last line and on the line of `http {`, so line numbers stay as they are written, and
//! only what the configuration does not say itself.

/// The directives of `http` that name a file or folder, with the place that they get.
pub const PATHS: [(&str, &str); 6] = [
    ("client_body_temp_path", "tmp_client_body"),
    ("proxy_temp_path", "tmp_proxy"),
    ("fastcgi_temp_path", "tmp_fastcgi"),
    ("uwsgi_temp_path", "tmp_uwsgi"),
    ("scgi_temp_path", "tmp_scgi"),
    ("access_log", "access.log"),
];

/// The configuration with the directives that it leaves out, among them those of [`PATHS`] that are given.
/// Placeholders are not expanded.
#[must_use]
pub fn dress(conf: &str, paths: &[(&str, &str)], events: &str) -> String {
    let outline = Outline::of(conf);
    let mut dressed = conf.to_owned();
    if let Some(at) = outline.http_opens_at {
        let mut added = String::new();
        for (name, place) in paths {
            add(&mut added, &outline.in_http, name, &format!("@ROOT@/{place}"));
        }
        dressed.insert_str(at, &added);
    }
    let mut added = String::new();
    add(&mut added, &outline.in_main, "daemon", "off");
    add(&mut added, &outline.in_main, "pid", "@ROOT@/nginx.pid");
    add(&mut added, &outline.in_main, "error_log", "@ROOT@/error.log info");
    if !outline.in_main.iter().any(|name| name == "events") {
        added.push_str(&format!(" events {{{events}}}"));
    }
    format!("{}\n{}\n", dressed.trim_end(), added.trim())
}

fn add(text: &mut String, present: &[String], name: &str, value: &str) {
    if !present.iter().any(|word| word == name) {
        text.push_str(&format!(" {name} {value};"));
    }
}

/// Which directives stand in the main context and directly in `http`.
#[derive(Default)]
struct Outline {
    in_main: Vec<String>,
    in_http: Vec<String>,
    http_opens_at: Option<usize>,
}

impl Outline {
    fn of(conf: &str) -> Self {
        let mut outline = Self::default();
        let mut blocks: Vec<String> = Vec::new();
        let mut first = String::new();
        let mut quote: Option<char> = None;
        let mut word_ended = false;
        let mut chars = conf.char_indices();
        while let Some((at, c)) = chars.next() {
            if let Some(open) = quote {
                if c == '\\' {
                    chars.next();
                } else if c == open {
                    quote = None;
                }
                continue;
            }
            match c {
                '"' | '\'' => quote = Some(c),
                '#' if first.is_empty() || word_ended => {
                    chars.by_ref().find(|(_, c)| *c == '\n');
                }
                ';' => {
                    outline.note(&blocks, &first);
                    first.clear();
                    word_ended = false;
                }
                '{' if word_ended || !first.is_empty() => {
                    outline.note(&blocks, &first);
                    if blocks.is_empty() && first == "http" {
                        outline.http_opens_at.get_or_insert(at + 1);
                    }
                    blocks.push(std::mem::take(&mut first));
                    word_ended = false;
                }
                '}' => {
                    blocks.pop();
                    first.clear();
                    word_ended = false;
                }
                c if c.is_whitespace() => word_ended = !first.is_empty(),
                c if !word_ended => first.push(c),
                _ => {}
            }
        }
        outline
    }

    fn note(&mut self, blocks: &[String], name: &str) {
        match blocks {
            [] => self.in_main.push(name.to_owned()),
            [only] if only == "http" => self.in_http.push(name.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_what_is_missing_and_keeps_the_lines() {
        let dressed = dress("http {\n    server { access_log off; }\n}\n", &PATHS, "use x;");
        assert!(dressed.starts_with("http { client_body_temp_path"), "{dressed}");
        assert!(dressed.contains(" access_log @ROOT@/access.log;\n    server"), "{dressed}");
        assert!(dressed.ends_with("error_log @ROOT@/error.log info; events {use x;}\n"), "{dressed}");
    }

    #[test]
    fn leaves_what_is_there() {
        let dressed = dress("pid x; # daemon on;\nevents { }\nhttp { access_log off; }", &[], "");
        assert!(!dressed.contains("@ROOT@/access.log") && !dressed.contains("@ROOT@/nginx.pid"), "{dressed}");
        assert!(dressed.contains("daemon off;") && !dressed.contains("events {}"), "{dressed}");
    }
}
