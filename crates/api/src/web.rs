//! The web files of the console, embedded in the binary.
//!
//! They are revalidated with every load (`ETag`), so that a new version of the server shows at once, and may load
//! nothing from elsewhere.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../../web"]
#[allow_missing = true]
struct Files;

const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// By the end of a file's name.
const TYPES: &[(&str, &str)] = &[
    (".html", "text/html; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".mjs", "text/javascript; charset=utf-8"),
    (".css", "text/css; charset=utf-8"),
    (".json", "application/json"),
    (".svg", "image/svg+xml"),
    (".png", "image/png"),
    (".ico", "image/x-icon"),
    (".woff2", "font/woff2"),
    (".txt", "text/plain; charset=utf-8"),
];

/// `GET /`.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// `GET /web/…`.
pub(crate) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

fn serve(path: &str, asked: &HeaderMap) -> Response {
    match Files::get(path) {
        Some(file) => found(path, file, asked),
        None => Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no web file {path}: the page is at /, the API is described at /openapi.json"),
        )
        .into_response(),
    }
}

fn found(path: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let etag = etag(&file);
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|sent| matches(sent, &etag));
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { file.data.into_response() };
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    }
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, value);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let number = hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
    format!("\"{number:032x}\"")
}

/// Whether an `If-None-Match` names the tag; weakly, as RFC 9110 §13.1.2 wants it.
fn matches(sent: &HeaderValue, etag: &str) -> bool {
    let Ok(sent) = sent.to_str() else { return false };
    sent.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn content_type(path: &str) -> &'static str {
    TYPES.iter().find(|(end, _)| path.ends_with(end)).map_or("application/octet-stream", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(data: &'static [u8], asked: &[(header::HeaderName, &str)]) -> Response {
        let metadata = rust_embed::Metadata::__rust_embed_new([7; 32], None, None);
        let file = EmbeddedFile { data: data.into(), metadata };
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(name, value.parse().unwrap());
        }
        found("app.js", file, &headers)
    }

    #[test]
    fn a_file_comes_with_its_type_tag_and_policy() {
        let response = embedded(b"export {}", &[]);
        assert_eq!(response.status(), 200);
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(header(header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert_eq!(header(header::ETAG), "\"07070707070707070707070707070707\"");
        assert!(header(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'self'"));
    }

    #[test]
    fn a_known_tag_is_not_sent_again() {
        for (sent, status) in [
            ("\"07070707070707070707070707070707\"", 304),
            ("\"other\", W/\"07070707070707070707070707070707\"", 304),
            ("*", 304),
            ("\"other\"", 200),
        ] {
            assert_eq!(embedded(b"x", &[(header::IF_NONE_MATCH, sent)]).status(), status, "{sent}");
        }
    }
}
