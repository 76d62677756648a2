"""Parses reports: elements, text and attributes."""

from __future__ import annotations

from html.parser import HTMLParser

OPEN_ENDED = {"meta", "img", "wbr"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "div",
    "h1", "h2", "h3", "p", "dl", "dt", "dd", "ul", "li", "span", "strong", "small", "code", "pre",
    "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "wbr",
    "svg", "g", "text", "line", "path", "rect",
}  # fmt: skip
ATTRIBUTES = {
    "charset", "http-equiv", "content", "name", "lang", "class", "scope", "tabindex", "src", "alt",
    "viewbox", "role", "aria-label", "d", "x", "y", "x1", "y1", "x2", "y2", "width", "height",
    "text-anchor",
}  # fmt: skip


class Page(HTMLParser):
    """A page, taken apart; every element has to be closed.

    Attributes:
        elements: names and attributes, in order.
        texts: what stands in elements of each name.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in OPEN_ENDED:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.texts[name][-1] += data

    def check_harmless(self) -> None:
        """Nothing is in it but what a report is made of, and nothing leads out of it."""
        assert {name for name, _ in self.elements} <= KNOWN
        assert {key for _, attributes in self.elements for key in attributes} <= ATTRIBUTES
        sources = [attributes["src"] for _, attributes in self.elements if "src" in attributes]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        assert "url(" not in self.texts["style"][0]
        assert "@import" not in self.texts["style"][0]
