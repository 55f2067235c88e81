"""HTML put together so that text cannot become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

VOID = {"input", "meta"}
_ADDRESS = re.compile(r"https?://[^\s,;)]+[^\s,;).]")


class Markup(str):
    """HTML that is finished; everything else is text and gets escaped."""

    __slots__ = ()


def escape(content: Any) -> Markup:
    """Return HTML for a piece of content: finished HTML as it is, text escaped."""
    return content if isinstance(content, Markup) else Markup(html.escape(str(content), quote=True))


def element(name: str, *children: Any, **attributes: Any) -> Markup:
    """Return an element.

    An attribute of None or False is left out, True stands without a value; a trailing underscore is
    dropped and others become hyphens (``class_``, ``aria_label``).
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{html.escape(str(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(pieces: Iterable[Any], separator: str = "") -> Markup:
    """Return pieces one after the other, each escaped unless finished."""
    return Markup(separator.join(escape(piece) for piece in pieces))


def paragraphs(texts: Iterable[Any]) -> Markup:
    """Return one paragraph per text."""
    return join(element("p", text) for text in texts)


def linked(text: str) -> Markup:
    """Return text whose web addresses are links; nothing is loaded from them."""
    pieces: list[Any] = []
    end = 0
    for match in _ADDRESS.finditer(text):
        pieces.append(text[end : match.start()])
        pieces.append(element("a", match.group(), href=match.group(), rel="noreferrer"))
        end = match.end()
    return join([*pieces, text[end:]])
