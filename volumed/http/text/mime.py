"""Content type by file name extension (http.md appendix A)."""

from __future__ import annotations

__all__ = ["extension", "mime_by_extension"]

_TABLE = """
text/plain  txt log text cfg conf ini properties gitignore gitattributes env
text/markdown  md markdown
text/html  html htm shtml
text/css  css
text/csv  csv
text/yaml  yaml yml
text/sql  sql
text/calendar  ics
text/vtt  vtt
text/xml  xbl xsl
application/javascript  js mjs
text/typescript  ts
text/x-python  py
text/x-go  go
text/x-java  java
text/x-c  c
text/x-c++  cpp cc cxx c++
text/x-c-header  h hpp
text/x-php  php
text/x-ruby  rb
text/x-perl  pl
text/x-rust  rs
text/x-swift  swift
text/x-kotlin  kt
text/x-scala  scala
text/x-shellscript  sh bash zsh fish
text/x-dockerfile  dockerfile
application/json  json
application/xml  xml
application/xhtml+xml  xhtml xht
application/rdf+xml  rdf
image/jpeg  jpg jpeg jfif
image/png  png
image/gif  gif
image/bmp  bmp
image/webp  webp
image/svg+xml  svg
image/x-icon  ico
image/apng  apng
image/avif  avif
image/tiff  tif tiff
image/x-xbitmap  xbm
application/pdf  pdf
application/postscript  ai eps ps
application/rtf  rtf
application/wasm  wasm
application/msword  doc
application/vnd.openxmlformats-officedocument.wordprocessingml.document  docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet  xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation  pptx
application/vnd.ms-excel  xls
application/vnd.ms-powerpoint  ppt
application/vnd.android.package-archive  apk
application/zip  zip
application/x-tar  tar
application/gzip  gz
application/x-bzip2  bz2
application/x-7z-compressed  7z
application/x-rar-compressed  rar
application/octet-stream  bin com exe
video/mp4  mp4
video/ogg  ogv
video/quicktime  mov
video/webm  webm
video/x-msvideo  avi
video/x-ms-wmv  wmv
video/x-flv  flv
audio/mpeg  mp3
audio/wav  wav
audio/flac  flac
audio/aac  aac
audio/ogg  ogg oga opus
audio/mp4  m4a
message/rfc822  eml
"""

_FALLBACK = """
font/woff  woff
font/woff2  woff2
font/ttf  ttf
video/mpeg  mpeg mpg
video/mp4  m4v
video/x-matroska  mkv
video/3gpp  3gp
audio/midi  mid midi
audio/x-aiff  aif aiff
audio/x-ms-wma  wma
audio/x-mpegurl  m3u8
image/heif  heic heif
image/jxl  jxl
image/vnd.adobe.photoshop  psd
image/svg+xml-compressed  svgz
text/vcard  vcf
text/tab-separated-values  tsv
text/x-tex  tex
text/x-patch  diff patch
text/x-lua  lua
text/x-dart  dart
text/x-scss  scss
text/x-sass  sass
application/atom+xml  atom
application/rss+xml  rss
application/ld+json  jsonld
application/toml  toml
application/epub+zip  epub
application/zstd  zst
application/x-xz  xz
application/x-compressed-tar  tgz
application/x-bittorrent  torrent
application/x-cd-image  iso
application/x-apple-diskimage  dmg
application/x-java-archive  jar
application/x-rpm  rpm
application/x-subrip  srt
application/vnd.debian.binary-package  deb
application/vnd.oasis.opendocument.text  odt
application/vnd.oasis.opendocument.spreadsheet  ods
application/vnd.oasis.opendocument.presentation  odp
"""
"""What the usual host database says of common extensions outside the table. The reference asks the host, so
that its answers vary; these do not."""


def _load(*tables: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for line in "".join(tables).split("\n"):
        kind, *extensions = line.split() or [""]
        value = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        for name in extensions:
            types.setdefault(f".{name}", value)
    return types


_TYPES = _load(_TABLE, _FALLBACK)


def extension(filename: str) -> str:
    """From the last dot of a name on, the dot included; empty when there is none."""
    dot = filename.rfind(".")
    return filename[dot:] if dot >= 0 else ""


def mime_by_extension(ext: str) -> str:
    """Type of an extension with its dot, empty when unknown; exact letter case first, then lower case."""
    return _TYPES.get(ext) or _TYPES.get(ext.lower(), "")
