"""HTML from Python values: text is escaped unless it was made here."""

from __future__ import annotations

import html

from mnistcli.errors import make_printable


class Markup(str):
    """HTML whose text has been escaped."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Return text as HTML that shows it: no markup, control characters written out.

    A `Markup` is returned as it is. Line breaks stay.
    """
    if isinstance(text, Markup):
        return text
    lines = map(make_printable, text.split("\n"))
    return Markup(html.escape("\n".join(lines)))


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: text, which is escaped, or markup.
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; those that are None are
            left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children and name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Return text and markup one after the other."""
    return Markup("".join(map(escape, children)))


_VOID = {"img", "meta", "wbr"}
