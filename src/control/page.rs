//! The web page: files that are in the program, so that it needs nothing from elsewhere. It works where nothing but
//! these files may be loaded and run.

/// One module: each part may use what the others declare.
const SCRIPT: &str = concat!(
    include_str!("page/format.js"),
    include_str!("page/rates.js"),
    include_str!("page/draw.js"),
    include_str!("page/sections.js"),
    include_str!("page/changes.js"),
    include_str!("page/ask.js"),
    include_str!("page/change.js"),
    include_str!("page/connections.js"),
    include_str!("page/main.js"),
);

/// The file for the path of a URL, and its content type.
#[must_use]
pub fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    let (kind, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some((kind, text.as_bytes()))
}
