"""File names, types and dispositions of reads (http.md 3.6)."""

from __future__ import annotations

from urllib.parse import quote

from tests.interop.differential.kit import TS, Case, fid, form, get, head, put

BARE, NAMED, TYPED, OCTETS = fid(0x0601), fid(0x0602), fid(0x0603), fid(0x0604)
FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'
NAMES = (
    "a.png", "a b.txt", "a,b", "semi;colon", 'quo"te', "back\\slash", "tab\there", "eq=ual", "na\u00efve.txt",
    "\u65e5\u672c.txt", "star*", "it's", "100%", "(round)", "[square]", "{curly}", "<angle>", "a@b", "a:b", "a?b",
    "~a", "!#$&+^`|", "\u00e9*'%;=", ".hidden", "trailing.", "\x7f", "new\nline", "a" * 300,
)  # fmt: skip
EXTENSIONS = (
    "TXT", "Txt", "jpeg", "JPG", "tar.gz", "md", "unknown", "c++", "webp", "mjs", "exe", "svg", "html", "7z", "ico",
)  # fmt: skip
TABLE = (
    "txt", "log", "text", "cfg", "conf", "ini", "properties", "gitignore", "gitattributes", "env", "md", "markdown",
    "html", "htm", "shtml", "css", "csv", "yaml", "yml", "sql", "ics", "vtt", "xbl", "xsl", "js", "mjs", "ts", "py",
    "go", "java", "c", "cpp", "cc", "cxx", "c++", "h", "hpp", "php", "rb", "pl", "rs", "swift", "kt", "scala", "sh",
    "bash", "zsh", "fish", "dockerfile", "json", "xml", "xhtml", "xht", "rdf", "jpg", "jpeg", "jfif", "png", "gif",
    "bmp", "webp", "svg", "ico", "apng", "avif", "tif", "tiff", "xbm", "pdf", "ai", "eps", "ps", "rtf", "wasm", "doc",
    "docx", "xlsx", "pptx", "xls", "ppt", "apk", "zip", "tar", "gz", "bz2", "7z", "rar", "bin", "com", "exe", "mp4",
    "ogv", "mov", "webm", "avi", "wmv", "flv", "mp3", "wav", "flac", "aac", "ogg", "oga", "opus", "m4a", "eml",
)  # fmt: skip
"""Appendix A."""
OVERRIDES = (
    "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires", "etag",
)  # fmt: skip


def named(name: str, target: str = BARE) -> str:
    volume_id, _, key = target[1:].partition(",")
    return f"/{volume_id}/{key}/{quote(name, safe='')}"


def override(name: str, value: str) -> Case:
    return get(f"override {name}", f"{NAMED}?response-{name}={value}")


CASES = [
    put("store octet-stream", f"{BARE}?{TS}", b"needle", "Content-Type: application/octet-stream"),
    form("store a name", f"{NAMED}?{TS}", [FILE.format("na\u00efve a.html")], b"\x00needle"),
    form("store a type", f"{TYPED}?{TS}", [FILE.format("a.bin"), "Content-Type: text/x-mine; a=b"], b"\x00needle"),
    put(
        "store an octet-stream with parameters",
        f"{OCTETS}?{TS}",
        b"\x00",
        "Content-Type: application/octet-stream; a=b",
    ),
    get("name of the URL", BARE),
    get("stored name", NAMED),
    get("stored type", TYPED),
    head("stored type, head", TYPED),
    head("sniffed type, head", BARE),
    get("octet-stream with parameters", OCTETS),
    *[get(f"name {name[:12]!r}", named(name)) for name in NAMES],
    *[get(f"extension {ext}", named(f"a.{ext}")) for ext in EXTENSIONS],
    *[get(f"type of .{ext}", named(f"x.{ext}")) for ext in TABLE],
    get("name of the URL beats the stored one", named("b.css", NAMED)),
    get("stored type beats the extension", named("b.css", TYPED)),
    get("extension of the URL, stored name", f"{NAMED}.css"),
    get("extension of the URL, octet-stream", f"{BARE}.css"),
    head("name, head", named("a b.png")),
    *[
        get(f"dl={value}", f"{NAMED}?dl={value}")
        for value in ("true", "1", "T", "TRUE", "yes", "false", "0", "", "tRUE")
    ],
    get("dl with a name", named("a.txt") + "?dl=t"),
    get("DL in upper case", f"{NAMED}?DL=true"),
    *[override(name, "a/b") for name in OVERRIDES],
    get("override with no value", f"{NAMED}?response-content-type="),
    get("override with no value, octet-stream", f"{BARE}?response-content-type="),
    get("override in upper case", f"{NAMED}?RESPONSE-Content-Type=a/b"),
    get("override twice", f"{NAMED}?response-content-type=a/b&response-content-type=c/d"),
    get("override twice in other letters", f"{NAMED}?response-expires=1&Response-Expires=1"),
    get("override with line breaks", f"{NAMED}?response-expires=a%0d%0aX:%20b"),
    get("override with bytes above 7e", f"{NAMED}?response-expires=%c3%af%ff"),
    get("override with blanks around", f"{NAMED}?response-expires=%20a%20"),
    get("override of a text type", f"{NAMED}?response-content-type=text/html"),
    get("override of the disposition and dl", f"{NAMED}?response-content-disposition=inline&dl=true"),
    get("override of the encoding, octet-stream", f"{BARE}?response-content-encoding=x"),
    get("all overrides", f"{NAMED}?" + "&".join(f"response-{name}=x" for name in OVERRIDES)),
    get("override and range", f"{BARE}?response-content-type=a/b", "Range: bytes=0-1"),
    get("override and several ranges", f"{BARE}?response-content-type=a/b", "Range: bytes=0-1,3-4"),
    get("override and bad range", f"{BARE}?response-content-type=a/b", "Range: bytes=x"),
    head("override, head", f"{NAMED}?response-content-type=a/b"),
    get("override of a missing file", f"{fid(0x0699)}?response-content-type=a/b"),
]
