//! Which nginx Tidegate answers as, and how it names itself where it may.

/// The version as a literal, for [`concat!`].
#[macro_export]
macro_rules! nginx_version {
    () => {
        "1.31.5"
    };
}

/// The name that Tidegate goes by where the build is to be told, as a literal for [`concat!`].
#[macro_export]
macro_rules! build {
    () => {
        concat!("nginx/", $crate::nginx_version!(), " (tidegate/", env!("CARGO_PKG_VERSION"), ")")
    };
}

/// The version of nginx whose behaviour this is.
pub const NGINX_VERSION: &str = nginx_version!();
/// Its name, as it stands in answers.
pub const NGINX: &str = concat!("nginx/", nginx_version!());
/// The name where the build is to be told (`server_tokens build`).
pub const BUILD: &str = build!();
