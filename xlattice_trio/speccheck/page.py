"""A trace as one page that needs nothing else: the specification's text, every requirement in it with its state.

The page loads nothing and runs nothing. What a requirement's code looks like stands in the page; where the sources can
be found on the web is said by an address with {path} and {line} in it.
"""

import html
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.page_style import STYLE
from xlattice_trio.speccheck.requirements import LEVELS
from xlattice_trio.speccheck.statements import code_at
from xlattice_trio.speccheck.tables import Place
from xlattice_trio.speccheck.trace import State, Trace, Traced

EXCERPT = 12  # lines

_ID = re.compile(r"\[([A-Z]{2}-\d+)\]")
_NUMBERED = re.compile(r"(\d+(?:\.\d+)*)\.? ")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
# Sections of this specification: "section 5.3", "(5.3, 5.4)"; those of others follow a number: "RFC 8017, section 8.1".
_SECTIONS = re.compile(
    r"(?<!\d,\s)\b[Ss]ections?\s\d+(?:\.\d+)*(?:(?:,| to| and| or)\s\d+(?:\.\d+)*)*"
    r"|\(\d+\.\d+(?:(?:,| to| and)\s\d+\.\d+)*\)"
)


def page(trace: Trace, source_url: str | None) -> str:
    """The page. `source_url` has {path}, and may have {line}. Raises UsageError if it has not."""
    if source_url is not None and "{path}" not in source_url:
        raise UsageError(f"{source_url} has no {{path}}: the address of what?")
    chapters = [_Chapter(path, trace, source_url) for path in _files(trace.spec.directory)]
    body = "\n".join(chapter.render() for chapter in chapters)
    contents = "\n".join(chapter.contents() for chapter in chapters)
    states = [state for state in State if any(traced.state is state for traced in trace.requirements)]
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The specification, traced</title>
<style>
{STYLE}{"".join(_filter_rules(states))}</style>
</head>
<body>
<aside>
{_summary(trace, states)}
{_filter(states)}
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
</aside>
<main>
{body}
</main>
</body>
</html>
"""


def _files(directory: Path) -> list[Path]:
    """The README first."""
    return sorted(directory.glob("*.md"), key=lambda path: (path.name != "README.md", path.name))


# ---- what stands beside the text ---------------------------------------------


def _summary(trace: Trace, states: Sequence[State]) -> str:
    counts = trace.counts()
    levels = [level for level in LEVELS if any(counts[level, state] for state in states)]
    head = "".join(f'<th scope="col">{level}</th>' for level in levels)
    rows = "".join(
        f'<tr><th scope="row">{_badge(state)}</th>'
        + "".join(f"<td>{counts[level, state] or ''}</td>" for level in levels)
        + "</tr>\n"
        for state in states
    )
    musts = [traced for traced in trace.requirements if traced.item.level == "MUST"]
    covered = sum(not traced.fails for traced in musts)
    return f"""\
<table class="summary">
<caption>Of {len(musts)} MUSTs, {covered} are tested or exempt.</caption>
<thead><tr><td></td>{head}</tr></thead>
<tbody>
{rows}</tbody>
</table>"""


def _filter(states: Sequence[State]) -> str:
    choices = [("all", "the whole text"), *((state.value, f"only {state.value}") for state in states)]
    radios = "\n".join(
        f'<label><input type="radio" name="state" id="f-{value}"{" checked" if value == "all" else ""}> {text}</label>'
        for value, text in choices
    )
    return f"""\
<form class="filter" autocomplete="off">
<fieldset>
<legend>Show</legend>
{radios}
<label><input type="checkbox" id="f-must"> MUST only</label>
</fieldset>
</form>"""


def _filter_rules(states: Sequence[State]) -> Iterator[str]:
    """Rules of style that leave, of the text, the headings and the requirements that were asked for."""
    for state in ["", *(state.value for state in states)]:
        for must in (False, True):
            if state or must:
                chosen = "body" + f":has(#f-{state or 'all'}:checked)" + ":has(#f-must:checked)" * must
                wanted = ".req" + f".{state}" * bool(state) + ".must" * must
                yield (
                    f"{chosen} main section > :not(section, .reqs, h1, h2), {chosen} .req:not({wanted}),\n"
                    f"{chosen} :is(main section, .reqs):not(:has({wanted})) {{ display: none }}\n"
                )


def _badge(state: State) -> str:
    return f'<span class="badge {state.value}">{state.value}</span>'


# ---- the text ----------------------------------------------------------------


class _Renderer(RendererHTML):
    """Makes references in plain text into links, and lets a wide table move by itself."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._sections = trace.spec.sections
        self._ids = {traced.id for traced in trace.requirements}

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        text = super().text(tokens, idx, options, env)
        text = _SECTIONS.sub(lambda match: _NUMBER.sub(self._section_link, match[0]), text)
        return _ID.sub(self._requirement_link, text)

    def _section_link(self, match: re.Match[str]) -> str:
        return f'<a href="#s-{match[0]}">{match[0]}</a>' if match[0] in self._sections else match[0]

    def _requirement_link(self, match: re.Match[str]) -> str:
        return f'<a href="#{match[1]}">{match[0]}</a>' if match[1] in self._ids else match[0]

    def table_open(self, *_: object) -> str:
        return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'

    def table_close(self, *_: object) -> str:
        return "</table></div>\n"


class _Chapter:
    """A file of the specification: its Markdown is taken apart, marked up, and then rendered."""

    def __init__(self, path: Path, trace: Trace, source_url: str | None) -> None:
        self._path = path
        self._trace = trace
        self._source_url = source_url
        self._traced: Mapping[str, Traced] = {traced.id: traced for traced in trace.requirements}
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        self._headings: list[tuple[int, str, str]] = []  # level, anchor, text
        self._tokens = self._marked_up(self._markdown.parse(path.read_text(encoding="utf-8")))

    def render(self) -> str:
        return _Renderer(self._trace).render(self._tokens, self._markdown.options, {})

    def contents(self) -> str:
        """The chapter's item in the table of contents."""
        if not self._headings:
            return ""
        (_, anchor, title), *others = self._headings
        inner = "".join(_contents_line(*heading[1:]) + "</li>\n" for heading in others if heading[0] == 2)
        return _contents_line(anchor, title) + (f"\n<ul>\n{inner}</ul>\n" if inner else "") + "</li>"

    def _marked_up(self, tokens: Sequence[Token]) -> list[Token]:
        """The same tokens, with sections around them, anchors, and what is known of each requirement."""
        found: list[Token] = []
        details: list[str] = []  # of the list items that are open
        opened = 0
        for index, token in enumerate(tokens):
            if token.type == "inline":
                self._mark_inline(token)
            if token.type == "heading_open":
                level = int(token.tag[1:])
                if level <= 2:
                    while opened >= level:
                        found.append(_raw("</section>\n"))
                        opened -= 1
                    found.append(_raw("<section>\n"))
                    opened += 1
                self._mark_heading(token, tokens[index + 1].content, level)
            if token.type == "list_item_close":
                found.append(_raw(details.pop()))
            found.append(token)
            if token.type == "list_item_open":
                head, tail = self._mark_item(tokens, index)
                found.append(_raw(head))
                details.append(tail)
        return [*found, *[_raw("</section>\n")] * opened]

    def _mark_heading(self, token: Token, text: str, level: int) -> None:
        number = _NUMBERED.match(text)
        anchor = f"s-{number[1]}" if number else f"t-{'-'.join(re.findall(r'[a-z0-9]+', text.lower()))}"
        if level == 1 and not number:
            anchor = f"c-{self._path.stem}"
        token.attrSet("id", anchor)
        self._headings.append((level, anchor, text))

    def _mark_item(self, tokens: Sequence[Token], index: int) -> tuple[str, str]:
        """If a list's item is a requirement: what is said of it before and after its text."""
        inline = next(token for token in tokens[index:] if token.type in {"inline", "list_item_close"})
        mark = _ID.match(inline.content)
        traced = self._traced.get(mark[1]) if mark else None
        if traced is None or not inline.children:
            return "", ""
        inline.children[0].content = inline.children[0].content.removeprefix(f"[{traced.id}] ")
        above = (token for token in reversed(tokens[:index]) if token.level == tokens[index].level - 1)
        next(above).attrSet("class", "reqs")
        tokens[index].attrSet("id", traced.id)
        tokens[index].attrSet("class", f"req {traced.item.level.lower()} {traced.state.value}")
        return _head(traced), self._details(traced)

    # ---- inline ----

    def _mark_inline(self, token: Token) -> None:
        """Join what a line's end parts, and lead links to where their targets are."""
        children: list[Token] = []
        for child in token.children or []:
            if child.type == "softbreak":
                child = Token("text", "", 0, content="\n")
            if child.type == "link_open":
                self._mark_link(child)
            if child.type == "text" and children and children[-1].type == "text":
                children[-1].content += child.content
            else:
                children.append(child)
        token.children = children

    def _mark_link(self, token: Token) -> None:
        target = str(token.attrGet("href"))
        if re.match(r"[a-z]+:|#", target):
            return
        path = self._path.parent / target
        if path.suffix == ".md" and path.parent == self._path.parent:
            number = re.match(r"0*(\d+)-", path.name)
            token.attrSet("href", f"#s-{number[1]}" if number else f"#c-{path.stem}")
        else:
            address = self._address(Place(path, 1))
            token.attrs = {"href": address} if address else {}

    # ---- what is known of a requirement ----

    def _details(self, traced: Traced) -> str:
        why = f'<p class="why">Exempt: {html.escape(traced.item.exempt)}</p>' if traced.item.exempt else ""
        parts = []
        if traced.code:
            parts.append("<h4>Code</h4>")
            parts += [self._place(place) + _excerpt(place) for place in traced.code]
        for title, exercises in (("Tests", traced.tests), ("Vectors", traced.vectors)):
            if exercises:
                lines = "".join(
                    f"<li>{self._linked(exercise.place, self._named(exercise.place, exercise.name))}</li>"
                    for exercise in exercises
                )
                parts.append(f"<h4>{title}</h4><ul>{lines}</ul>")
        if not parts:
            return why
        return f"{why}<details><summary>{_in_short(traced)}</summary>{''.join(parts)}</details>"

    def _place(self, place: Place) -> str:
        return f'<p class="place">{self._linked(place, f"{self._relative(place.path)}:{place.line}")}</p>'

    def _named(self, place: Place, name: str) -> str:
        return name if place.path.suffix == ".json" else f"{self._relative(place.path)}::{name}"

    def _linked(self, place: Place, text: str) -> str:
        address = self._address(place)
        shown = f"<code>{html.escape(text)}</code>"
        return f'<a href="{html.escape(address)}">{shown}</a>' if address else shown

    def _relative(self, path: Path) -> str:
        root = self._trace.root.resolve()
        return str(path.resolve().relative_to(root)) if path.resolve().is_relative_to(root) else path.name

    def _address(self, place: Place) -> str | None:
        if self._source_url is None or not place.path.resolve().is_relative_to(self._trace.root.resolve()):
            return None
        path = quote(self._relative(place.path))
        return self._source_url.replace("{path}", path).replace("{line}", str(place.line))


def _raw(text: str) -> Token:
    return Token("html_block", "", 0, content=text)


def _contents_line(anchor: str, title: str) -> str:
    return f'<li><a href="#{anchor}">{html.escape(title.replace("`", ""))}</a>'


def _head(traced: Traced) -> str:
    item = traced.item
    run = {None: "", True: ", executed", False: ", not executed"}[traced.executed]
    return (
        f'<p class="head"><a class="id" href="#{traced.id}">{traced.id}</a> {_badge(traced.state)} '
        f"{item.level}, {item.binds}, {item.testability}{run}</p>\n"
    )


def _in_short(traced: Traced) -> str:
    counts = (
        (len(traced.code), "place in the code", "places in the code"),
        (len(traced.tests), "test", "tests"),
        (len(traced.vectors), "vector", "vectors"),
    )
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)


def _excerpt(place: Place) -> str:
    """The lines that are cited, or those of them around the citation."""
    cited = code_at(place)
    first = max(cited.first, place.line - EXCERPT // 2) if cited.last - cited.first >= EXCERPT else cited.first
    lines = place.path.read_text(encoding="utf-8").splitlines()[first - 1 : min(cited.last, first + EXCERPT - 1)]
    return f"<pre><code>{html.escape(textwrap.dedent(chr(10).join(lines)))}</code></pre>"
