//! What the API refuses, with the codes and texts of nginx's commercial edition.

use upstream::GroupError;

use super::json;

/// A refused request of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: u16,
    pub code: &'static str,
    pub text: String,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }

    /// A value that a server cannot have.
    pub(super) fn format(text: impl Into<String>) -> Self {
        Self::new(400, "UpstreamConfFormatError", text)
    }

    pub(super) fn path_not_found() -> Self {
        Self::new(404, "PathNotFound", "path not found")
    }

    pub(super) fn method_disabled() -> Self {
        Self::new(405, "MethodDisabled", "method disabled")
    }

    /// The body of the answer.
    pub(super) fn body(&self, request_id: &str) -> String {
        let mut out = String::new();
        json::object(&mut out, |object| {
            object.object("error", |error| {
                error
                    .number("status", u64::from(self.status))
                    .text("text", &self.text)
                    .text("code", self.code);
            });
            object.text("request_id", request_id);
            object.text("href", "https://nginx.org/en/docs/http/ngx_http_api_module.html");
        });
        out
    }
}

impl From<GroupError> for ApiError {
    fn from(error: GroupError) -> Self {
        Self::new(400, "UpstreamOutOfMemory", error.to_string())
    }
}
