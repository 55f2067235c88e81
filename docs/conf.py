"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import crispyx

project = "crispyx"
author = "The crispyx developers"
copyright = author
version = release = crispyx.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
# The list of methods is shown within methods/index.
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints", "methods/README.md"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "deflist"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
# Tutorials are kept with their outputs: `make tutorials` runs them again.
nb_execution_mode = "off"
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = "crispyx"
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "home_page_in_toc": True,
}

INVENTORIES = {
    "anndata": "https://anndata.readthedocs.io/en/stable/",
    "h5py": "https://docs.h5py.org/en/latest/",
    "matplotlib": "https://matplotlib.org/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "python": "https://docs.python.org/3/",
    "scanpy": "https://scanpy.readthedocs.io/en/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
}


def reachable(address: str) -> bool:
    """Tell whether an inventory can be had: without network the pages are built without links."""
    try:
        with urllib.request.urlopen(f"{address}objects.inv", timeout=3):
            return True
    except (URLError, OSError):
        return False


# The first decides: eight failing look-ups would only take time.
intersphinx_mapping = (
    {name: (address, None) for name, address in INVENTORIES.items()}
    if reachable(INVENTORIES["python"])
    else {}
)

DOCS = Path(__file__).parent.resolve()
UPWARDS = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+[^)\s]*)\)")


def without_outside_links(app: Any, name: str, source: list[str]) -> None:
    """Keep the words alone of links to files of the source tree, which are no pages here."""
    folder = (DOCS / name).parent

    def kept(link: re.Match[str]) -> str:
        inside = (folder / link[2].partition("#")[0]).resolve().is_relative_to(DOCS)
        return link[0] if inside else link[1]

    if name != "changelog":
        source[0] = UPWARDS.sub(kept, source[0])


def setup(app: Any) -> None:
    """Connect what changes pages on their way."""
    app.connect("source-read", without_outside_links)
    app.connect(
        "include-read",
        lambda app, path, name, content: without_outside_links(app, "included", content),
    )
