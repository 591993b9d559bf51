//! `types`: media types by file extension.

use std::collections::HashMap;
use std::sync::Arc;

use conf::{Directive, Error, Level};

/// Media types by lower-case extension.
#[derive(Clone, Debug, Default)]
pub struct Types {
    by_extension: HashMap<Box<[u8]>, Arc<[u8]>>,
}

impl Types {
    /// nginx's own three, for a configuration without `types`.
    #[must_use]
    pub fn built_in() -> Self {
        let rows = [("html", "text/html"), ("gif", "image/gif"), ("jpg", "image/jpeg")];
        let by_extension =
            rows.iter().map(|(ext, kind)| (ext.as_bytes().into(), Arc::from(kind.as_bytes()))).collect();
        Self { by_extension }
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_extension.is_empty()
    }

    /// The type of an extension, compared without regard to case.
    #[must_use]
    pub fn find(&self, extension: &[u8]) -> Option<&Arc<[u8]>> {
        if extension.iter().any(u8::is_ascii_uppercase) {
            return self.by_extension.get(&*extension.to_ascii_lowercase());
        }
        self.by_extension.get(extension)
    }

    /// Adds the lines of a `types` block; of an extension with two types, the later one counts, and `notices` say so.
    pub(super) fn add(&mut self, block: &Directive, notices: &mut Vec<Error>) {
        for line in block.body() {
            let kind: Arc<[u8]> = (*line.name.bytes).into();
            for word in &line.args {
                let extension: Box<[u8]> = word.bytes.to_ascii_lowercase().into();
                let shown = String::from_utf8_lossy(&extension).into_owned();
                let Some(before) = self.by_extension.insert(extension, Arc::clone(&kind)) else { continue };
                let sentence = format!(
                    "duplicate extension \"{shown}\", content type: \"{}\", previous content type: \"{}\"",
                    line.name.as_str(),
                    String::from_utf8_lossy(&before)
                );
                notices.push(Error::at(word, sentence).with_level(Level::Warn).found(line.order));
            }
        }
    }
}
