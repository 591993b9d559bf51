//! Files that configurations include by custom: parameters of application servers, MIME types, charset tables.
//!
//! They lie in the folder `conf` beside the sources and in the binary, so that a prefix needs none of its own.

/// Names, as `include` has them, and texts.
const FILES: [(&str, &[u8]); 10] = [
    ("fastcgi.conf", include_bytes!("../../../conf/fastcgi.conf")),
    ("fastcgi_params", include_bytes!("../../../conf/fastcgi_params")),
    ("koi-utf", include_bytes!("../../../conf/koi-utf")),
    ("koi-win", include_bytes!("../../../conf/koi-win")),
    ("mime.types", include_bytes!("../../../conf/mime.types")),
    ("proxy_params", include_bytes!("../../../conf/proxy_params")),
    ("scgi_params", include_bytes!("../../../conf/scgi_params")),
    ("snippets/fastcgi-php.conf", include_bytes!("../../../conf/snippets/fastcgi-php.conf")),
    ("uwsgi_params", include_bytes!("../../../conf/uwsgi_params")),
    ("win-utf", include_bytes!("../../../conf/win-utf")),
];

/// The text that is shipped under the name that an `include` has.
#[must_use]
pub fn text(name: &[u8]) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_names_alone() {
        assert!(text(b"mime.types").is_some_and(|text| text.starts_with(b"# ")));
        for name in ["", "nginx.conf", "/mime.types", "conf/mime.types", "./mime.types", "MIME.types"] {
            assert_eq!(text(name.as_bytes()), None, "{name}");
        }
        for (name, text) in FILES {
            assert!(text.is_ascii() && text.ends_with(b"\n"), "{name}");
        }
    }
}
