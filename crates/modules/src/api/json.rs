//! JSON as the API writes it: fields in the order in which they are added.

use std::fmt::Write;

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

/// Writes an object.
pub(super) fn object(out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
    out.push('{');
    fill(&mut Object { out, is_empty: true });
    out.push('}');
}

/// Writes a list.
pub(super) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (index, value) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        item(out, value);
    }
    out.push(']');
}

/// Writes a string.
pub(super) fn text(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

impl Object<'_> {
    /// A field whose value `fill` writes.
    pub(super) fn field(&mut self, name: &str, fill: impl FnOnce(&mut String)) -> &mut Self {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        text(self.out, name);
        self.out.push(':');
        fill(self.out);
        self
    }

    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.field(name, |out| text(out, value))
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.field(name, |out| {
            let _ = write!(out, "{value}");
        })
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.field(name, |out| out.push_str(if value { "true" } else { "false" }))
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.field(name, |out| object(out, fill))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        let mut out = String::new();
        object(&mut out, |object| {
            object.text("a\"b", "c\\d\u{1}\n").number("n", 7).flag("f", true);
            object.object("o", |_| {});
            object.field("l", |out| list(out, ["x", "y"], text));
        });
        assert_eq!(out, r#"{"a\"b":"c\\d\u0001\n","n":7,"f":true,"o":{},"l":["x","y"]}"#);
        let read: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(read["a\"b"], "c\\d\u{1}\n");
    }
}
