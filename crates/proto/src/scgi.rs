//! The SCGI request: a netstring of names and values, each with a zero behind it; `CONTENT_LENGTH` comes first.
//!
//! The answer is that of a CGI program.

/// Ends a name or a value; a variable is both.
pub fn end_part(out: &mut Vec<u8>) {
    out.push(0);
}

fn push_part(part: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(part);
    end_part(out);
}

/// Appends the request's head: `variables` made of [parts](end_part), behind the length of the body.
pub fn write(body_length: u64, variables: &[u8], out: &mut Vec<u8>) {
    let content_length = body_length.to_string();
    let length = "CONTENT_LENGTH".len() + content_length.len() + 2 + variables.len();
    out.reserve(length + 24);
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b':');
    push_part(b"CONTENT_LENGTH", out);
    push_part(content_length.as_bytes(), out);
    out.extend_from_slice(variables);
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let mut variables = Vec::new();
        for part in ["SCGI", "1", "EMPTY", ""] {
            push_part(part.as_bytes(), &mut variables);
        }
        let mut out = Vec::new();
        write(27, &variables, &mut out);
        assert_eq!(out, b"32:CONTENT_LENGTH\x0027\0SCGI\x001\0EMPTY\0\0,", "{}", out.escape_ascii());
    }
}
