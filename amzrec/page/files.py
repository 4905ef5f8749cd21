"""The files of the page, and a report made of them: one HTML file that needs no other and no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files
from typing import Any

FOLDER = "files"
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"
PARTS = ("icon.svg", "page.css", "elements.js", "charts.js", "model.js", "page.js")  # what the page loads
REPORT = ("elements.js", "charts.js", "model.js")  # what a report runs
MARK = '<meta name="generator" content="amzrec report">'  # by which amzrec knows its reports
POLICY = "default-src 'none'; {}; base-uri 'none'; form-action 'none'"
PAGE_POLICY = POLICY.format("script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'")


@cache
def content(name: str) -> bytes:
    """Return a file of the page."""
    return files("amzrec.page").joinpath(FOLDER, name).read_bytes()


def type_of(name: str) -> str:
    """Return the type of the content of a file, by its name."""
    return TYPES[name.rpartition(".")[2]]


def report_page(document: dict[str, Any]) -> str:
    """Write the summary of a run (see page/summary.py) as one HTML file.

    Its policy lets it run and load nothing but what was written into it: script and style are named by their hashes,
    and the document stands between tags that browsers do not run, with every `<` escaped.
    """
    style = content("page.css").decode()
    script = "\n".join(content(name).decode() for name in REPORT)
    policy = POLICY.format(f"script-src '{hash_of(script)}'; style-src '{hash_of(style)}'; img-src data:")
    data = json.dumps(document, allow_nan=False).replace("<", "\\u003c")
    icon = f"data:image/svg+xml;base64,{base64.b64encode(content('icon.svg')).decode()}"
    title = html.escape(f"{document['run']} · amzrec report")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body class="report">
<header class="top"><p class="brand"><img src="{icon}" alt="" width="28" height="28"> amzrec report</p></header>
<main id="main"><noscript><p class="empty">This report draws with JavaScript, which is off.</p></noscript></main>
<script type="application/json" id="document">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def hash_of(text: str) -> str:
    """Name a script or style as a Content-Security-Policy does (W3C CSP 3, 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
