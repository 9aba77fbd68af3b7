//! The pages, embedded in the binary: home, chat, console, lab, the files that they load, the JavaScript client under
//! `web/sdk/` and the documentation of this version under `web/docs/`.
//!
//! The files are compressed once, when the crate is built. They are revalidated with every load (`ETag`), so that a new
//! version of the server shows at once, and may load nothing from elsewhere.

use std::io::Read as _;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::problem::Problem;

/// A file of `web/`, `sdk/js/src/` or `docs/`.
struct File {
    /// Its address under `/web/`.
    name: &'static str,
    /// The hash of this version of the file.
    tag: &'static str,
    /// Its bytes, compressed.
    gzip: &'static [u8],
}

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The content security policy of all pages. `worker` is the one policy of Trusted Types: for the address of the
/// service worker.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types worker";

/// The media types, by the end of a file's name.
const TYPES: &[(&str, &str)] = &[
    (".html", "text/html; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".mjs", "text/javascript; charset=utf-8"),
    (".css", "text/css; charset=utf-8"),
    (".json", "application/json"),
    (".webmanifest", "application/manifest+json"),
    (".svg", "image/svg+xml"),
    (".png", "image/png"),
    (".ico", "image/x-icon"),
    (".woff2", "font/woff2"),
    (".txt", "text/plain; charset=utf-8"),
    (".md", "text/plain; charset=utf-8"),
];

/// `GET /`.
pub(crate) async fn home(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// `GET /console`.
pub(crate) async fn console(headers: HeaderMap) -> Response {
    serve("console.html", &headers)
}

/// `GET /chat`.
pub(crate) async fn chat(headers: HeaderMap) -> Response {
    serve("chat.html", &headers)
}

/// `GET /lab`.
pub(crate) async fn lab(headers: HeaderMap) -> Response {
    serve("lab.html", &headers)
}

/// `GET /web/…`.
pub(crate) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

fn serve(path: &str, asked: &HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == path) {
        Some(file) => found(file, asked),
        None => Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no web file {path}: the page is at /, the API is described at /openapi.json"),
        )
        .into_response(),
    }
}

fn found(file: &File, asked: &HeaderMap) -> Response {
    let is_compressed = takes_gzip(asked);
    // The tag is that of the bytes that are sent.
    let etag = format!("\"{}{}\"", file.tag, if is_compressed { "-gzip" } else { "" });
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|sent| matches(sent, &etag));
    let mut response = match (known, is_compressed) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => file.gzip.into_response(),
        (false, false) => inflated(file.gzip).into_response(),
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.name)));
        if is_compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, value);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "Accept-Encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether `Accept-Encoding` names gzip and doesn't forbid it.
fn takes_gzip(asked: &HeaderMap) -> bool {
    asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let is_refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
            (name.eq_ignore_ascii_case("gzip") || name == "*") && !is_refused
        })
}

/// The bytes of a file, for the rare client that takes no gzip.
fn inflated(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector can't fail, and the bytes are our own.
    let _ = GzDecoder::new(gzip).read_to_end(&mut bytes);
    bytes
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

    fn served(path: &str, asked: &[(header::HeaderName, &str)]) -> Response {
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(name, value.parse().unwrap());
        }
        serve(path, &headers)
    }

    fn text(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_file_comes_with_its_type_tag_and_policy() {
        let response = served("sdk/everywire.js", &[(header::ACCEPT_ENCODING, "deflate, gzip;q=0.5")]);
        assert_eq!(response.status(), 200);
        assert_eq!(text(&response, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert_eq!(text(&response, header::CONTENT_ENCODING), "gzip");
        assert_eq!(text(&response, header::VARY), "Accept-Encoding");
        assert!(text(&response, header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'; script-src 'self';"));
    }

    #[test]
    fn who_takes_no_gzip_gets_the_file_as_it_is_under_another_tag() {
        let plain = served("icon.svg", &[(header::ACCEPT_ENCODING, "gzip;q=0, br")]);
        assert_eq!(text(&plain, header::CONTENT_ENCODING), "");
        let gzip = served("icon.svg", &[(header::ACCEPT_ENCODING, "gzip")]);
        assert_ne!(text(&plain, header::ETAG), text(&gzip, header::ETAG));
        let file = FILES.iter().find(|file| file.name == "icon.svg").unwrap();
        assert!(inflated(file.gzip).starts_with(b"<svg"));
    }

    #[test]
    fn a_known_tag_is_not_sent_again() {
        let etag = text(&served("icon.svg", &[]), header::ETAG).to_owned();
        for (sent, status) in
            [(etag.clone(), 304), (format!("\"other\", W/{etag}"), 304), ("*".into(), 304), ("\"other\"".into(), 200)]
        {
            assert_eq!(served("icon.svg", &[(header::IF_NONE_MATCH, &sent)]).status(), status, "{sent}");
        }
    }
}
