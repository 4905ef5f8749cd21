"""A text in blocks, written as Markdown and as one HTML file that needs no other; whatever stands in it is escaped."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Sequence

from amzrec.errors import printable
from amzrec.page.files import POLICY, content, hash_of

MARKED = re.compile(r"([\\`*_\[\]<>|&~$])")  # what Markdown, as CommonMark and GitHub read it, takes for more than text
BEGINNING = re.compile(r"^(\d*)([#+=.)-])")  # what it takes for a heading or a list at the beginning of a line
ADDRESS = re.compile(r"\b(https?:|ftp:|www\.|mailto:)", re.IGNORECASE)  # what GitHub makes a link of


@dataclasses.dataclass(frozen=True)
class Heading:
    """A line above what follows."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """Sentences that stand below each other."""

    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row names it, and what has no value is None."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str | None]]


@dataclasses.dataclass(frozen=True)
class Lines:
    """Lines to type."""

    lines: Sequence[str]


Block = Heading | Paragraph | Items | Table | Lines
NONE = "–"
STYLE = """article p, article li { max-width: 46rem; }
article ul { list-style: disc; padding-left: var(--s5); }
article h2 { margin-top: var(--s6); }
article pre { overflow-x: auto; background: var(--sunken); padding: var(--s3); font-size: var(--small); }
"""


def plain_line(text: str) -> str:
    """Return a text as one line that steers no terminal."""
    return printable(" ".join(text.split()))


def marked(text: str) -> str:
    """Return a text as Markdown that shows it as it is, wherever in a line it stands."""
    return ADDRESS.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], MARKED.sub(r"\\\1", plain_line(text)))


def begun(text: str) -> str:
    """Return a text as Markdown that shows it as it is at the beginning of a line, where numbers begin lists."""
    return BEGINNING.sub(r"\1\\\2", marked(text))


def markdown(blocks: Sequence[Block], mark: str) -> str:
    """Write blocks as Markdown, below the comment `mark`."""
    return "\n\n".join([f"<!-- {mark} -->", *map(markdown_of, blocks)]) + "\n"


def markdown_of(block: Block) -> str:
    """Write one block as Markdown."""
    match block:
        case Heading(text, level):
            return f"{'#' * level} {marked(text)}"
        case Paragraph(text):
            return begun(text)
        case Items(texts):
            return "\n".join(f"- {begun(text)}" for text in texts)
        case Table(headings, rows):
            cells = [[marked(cell) if cell is not None else NONE for cell in row] for row in rows]
            ruled = ["---", *["---:"] * (len(headings) - 1)]
            return "\n".join(f"| {' | '.join(row)} |" for row in [[marked(h) for h in headings], ruled, *cells])
        case Lines(lines):
            text = printable("\n".join(lines))
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
            return f"{fence}sh\n{text}\n{fence}"


def html_page(blocks: Sequence[Block], title: str, mark: str) -> str:
    """Write blocks as one HTML file, which runs nothing and loads nothing: its style is written into it."""
    style = content("page.css").decode() + STYLE
    policy = POLICY.format(f"style-src '{hash_of(style)}'")
    body = "\n".join(map(html_of, blocks))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{html.escape(mark)}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(plain_line(title))}</title>
<style>{style}</style>
</head>
<body class="report">
<main id="main"><article class="card">
{body}
</article></main>
</body>
</html>
"""


def html_of(block: Block) -> str:
    """Write one block as HTML."""
    match block:
        case Heading(text, level):
            return f"<h{level}>{shown(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{shown(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{shown(text)}</li>" for text in texts) + "</ul>"
        case Table(headings, rows):
            head = "".join(f'<th scope="col"{number(i)}>{shown(text)}</th>' for i, text in enumerate(headings))
            body = "".join(f"<tr>{html_row(row)}</tr>" for row in rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            return f'<div class="wide" tabindex="0">{table}</div>'
        case Lines(lines):
            return '<pre tabindex="0"><code>' + html.escape(printable("\n".join(lines))) + "</code></pre>"


def html_row(row: Sequence[str | None]) -> str:
    """Write the cells of a row, of which the first is its name."""
    first, *rest = (NONE if cell is None else shown(cell) for cell in row)
    return f'<th scope="row">{first}</th>' + "".join(f"<td{number(1)}>{cell}</td>" for cell in rest)


def number(column: int) -> str:
    """Set all columns but the first to the right."""
    return ' class="n"' if column else ""


def shown(text: str) -> str:
    """Return a text as HTML that shows it as it is."""
    return html.escape(plain_line(text))
