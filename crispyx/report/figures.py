"""matplotlib figures as SVG inside the page, in the colors of the page."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING

from crispyx._run.drawing import drawing
from crispyx.plotting.style import DOWN, INK, LINE, NEUTRAL, RC, UP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The page sets these variables for light, dark and printed pages.
THEME = {INK: "--ink", LINE: "--line", NEUTRAL: "--neutral", UP: "--up", DOWN: "--down"}


def inline_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element that follows the page's colors and loads nothing.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn in the colors of :mod:`crispyx.plotting.style`.
    name : str
        Distinguishes the ids of this figure from others on the page.

    Returns
    -------
    str
        The element.
    """
    import matplotlib as mpl

    buffer = StringIO()
    # Text stays text, and ids depend on the name only: the same figure gives the same page.
    with drawing, mpl.rc_context({**RC, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # A style element would apply to the whole page; the page's own style says the same.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    for color, variable in THEME.items():
        svg = svg.replace(color, f"var({variable})")
    return _without_unused_ids(svg).strip()


def _without_unused_ids(svg: str) -> str:
    used = set(re.findall(r"#([\w-]+)", svg))
    return re.sub(r'\sid="([\w-]+)"', lambda m: m.group() if m.group(1) in used else "", svg)
