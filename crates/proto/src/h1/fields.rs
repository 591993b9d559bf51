//! The fields of a head in the order in which they came, with the first of each known name at hand.
//!
//! Names keep their case, duplicates stay apart: what is forwarded is what was sent.

use base::Span;

use super::known::Known;

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as it was sent.
    pub name: Span,
    /// The value without the spaces around it.
    pub value: Span,
    /// What the name means, so that nobody compares it twice.
    pub known: Known,
    form: Form,
}

/// How a field's line was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As `name: value` with CR LF.
    Plain,
    /// In another way, or name and value are from different places.
    Any,
}

impl Form {
    /// How the line of a name and a value lies in the buffer.
    pub(crate) fn of(name: Span, value: Span, buffer: &[u8]) -> Self {
        let between = Span { start: name.end, end: value.start };
        let end = Span { start: value.end, end: value.end.saturating_add(2) };
        let is_plain = between.of(buffer) == b": " && end.of(buffer) == b"\r\n";
        if is_plain { Self::Plain } else { Self::Any }
    }
}

impl Field {
    /// A field whose name and value lie anywhere.
    #[must_use]
    pub fn new(name: Span, value: Span, known: Known) -> Self {
        Self { name, value, known, form: Form::Any }
    }

    /// A field as its line was sent.
    #[inline]
    pub(crate) fn sent(name: Span, value: Span, known: Known, form: Form) -> Self {
        Self { name, value, known, form }
    }

    /// The field with another value.
    #[must_use]
    pub fn with_value(&self, value: Span) -> Self {
        Self::new(self.name, value, self.known)
    }

    /// The whole line, where it was sent as `name: value` with CR LF.
    #[inline]
    #[must_use]
    pub fn plain_line(&self) -> Option<Span> {
        let is_plain = self.form == Form::Plain;
        is_plain.then(|| Span { start: self.name.start, end: self.value.end.saturating_add(2) })
    }
}

/// Field lines of one head (or of trailers).
#[derive(Clone, Debug)]
pub struct Fields {
    list: Vec<Field>,
    /// Where the first field of a known name is; valid where its bit in `present` is set.
    first: [u16; Known::COUNT],
    present: u64,
    repeated: u64,
}

/// More fields than an index of 16 bits can name are refused by every parser.
pub(crate) const MAX_FIELDS: usize = u16::MAX as usize;

impl Default for Fields {
    fn default() -> Self {
        Self { list: Vec::new(), first: [0; Known::COUNT], present: 0, repeated: 0 }
    }
}

impl Fields {
    /// All fields in order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// The field at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Field> {
        self.list.get(index)
    }

    /// Whether any of these names is there more than once.
    #[inline]
    #[must_use]
    pub fn repeat_any(&self, names: u64) -> bool {
        self.repeated & names != 0
    }

    /// How many fields there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no field.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Becomes a copy of others and keeps the memory.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.list.clear();
        self.list.extend_from_slice(&other.list);
        self.first = other.first;
        self.present = other.present;
        self.repeated = other.repeated;
    }

    /// Forgets all fields and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.list.clear();
        self.present = 0;
        self.repeated = 0;
    }

    /// Whether a field of this known name is there.
    #[inline]
    #[must_use]
    pub fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    /// The first field of a known name, in constant time.
    #[inline]
    #[must_use]
    pub fn first(&self, known: Known) -> Option<&Field> {
        if self.has(known) { self.list.get(usize::from(self.first[known as usize])) } else { None }
    }

    /// The value of the first field of a known name.
    #[inline]
    #[must_use]
    pub fn value<'b>(&self, known: Known, buffer: &'b [u8]) -> Option<&'b [u8]> {
        self.first(known).map(|field| field.value.of(buffer))
    }

    /// All fields of a known name in order; costs nothing where there is none.
    #[inline]
    pub fn all(&self, known: Known) -> impl Iterator<Item = &Field> {
        let from = if self.has(known) { usize::from(self.first[known as usize]) } else { self.list.len() };
        self.list.get(from..).unwrap_or_default().iter().filter(move |field| field.known == known)
    }

    /// All fields called `name`, compared without case.
    #[inline]
    pub fn by_name<'a>(&'a self, buffer: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a Field> {
        let known = Known::of(name);
        let from = if known != Known::Other && !self.has(known) { self.list.len() } else { 0 };
        self.list.get(from..).unwrap_or_default().iter().filter(move |field| {
            field.known == known
                && (known != Known::Other || field.name.of(buffer).eq_ignore_ascii_case(name))
        })
    }

    /// Appends a field. Past 65,535 fields it is dropped; parsers refuse a head long before.
    #[inline]
    pub fn push(&mut self, field: Field) {
        let index = self.list.len();
        if index >= MAX_FIELDS {
            return;
        }
        let bit = field.known.bit();
        if self.present & bit == 0 {
            self.first[field.known as usize] = index as u16;
        } else {
            self.repeated |= bit;
        }
        self.present |= bit;
        self.list.push(field);
    }

    /// The first field whose name is among `names` and was there before, with the one before it.
    pub(crate) fn duplicate(&self, names: u64) -> Option<(&Field, &Field)> {
        if !self.repeat_any(names) {
            return None;
        }
        let mut seen = 0;
        for field in &self.list {
            let bit = field.known.bit() & names;
            if seen & bit != 0 {
                return self.first(field.known).map(|first| (field, first));
            }
            seen |= bit;
        }
        None
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_what_they_are() {
        let buffer = b"Cookie X-A cookie x-a";
        let mut fields = Fields::default();
        for (start, end) in [(0, 6), (7, 10), (11, 17), (18, 21)] {
            let name = Span::new(start, end);
            fields.push(Field::new(name, name, Known::of(name.of(buffer))));
        }
        assert_eq!(fields.len(), 4);
        assert_eq!(fields.value(Known::Cookie, buffer), Some(&b"Cookie"[..]));
        assert_eq!(fields.all(Known::Cookie).count(), 2);
        assert_eq!(fields.all(Known::Host).count(), 0);
        assert_eq!(fields.by_name(buffer, b"x-A").count(), 2);
        assert_eq!(fields.by_name(buffer, b"COOKIE").count(), 2);
        assert_eq!(fields.by_name(buffer, b"host").count(), 0);
        assert!(fields.duplicate(Known::Host.bit()).is_none());
        assert_eq!(fields.duplicate(Known::Cookie.bit()).map(|(f, _)| f.name), Some(Span::new(11, 17)));
        fields.clear();
        assert!(fields.is_empty() && fields.first(Known::Cookie).is_none());
    }
}
