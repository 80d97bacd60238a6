"""How `make docs` builds the pages: the README as the front page, the verbs, the Python API, the notebooks as saved.

The repository's root is the source, so that the links of the README are checked as they stand. Nothing is executed:
the notebooks show the outputs that are saved in them, and the tests see to it that those are true.
"""

from __future__ import annotations

from typing import Any

from claude_pool_nb import __version__
from claude_pool_nb.notebook.magics import PoolMagics
from claude_pool_nb.notebook.verbs import VERBS, overview

project = "claude-pool-nb"
author = "The claude-pool-nb maintainers"
copyright = f"2026, {author}"  # noqa: A001
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"),
    *("docs/*.md", "notebooks/*.ipynb"),
]
root_doc = "README"
default_role = "code"  # docstrings write code between single backticks

nb_execution_mode = "off"
myst_heading_anchors = 3
suppress_warnings = [
    "myst.header",  # the tables of the benchmarks are sections of their own
    "mystnb.unknown_mime_type",  # a chart's picture is shown in place of its specification
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"claude-pool-nb {version}"

_CONTENTS = """

```{toctree}
:hidden:

docs/verbs
docs/python
docs/testing
notebooks/00_quickstart
notebooks/01_prompt_experiments
notebooks/02_cost_analysis
benchmarks/README
CONTRIBUTING
CHANGELOG
```
"""


def _help_of_all_verbs() -> str:
    """What `%pool help` and `%pool help VERB` show, a heading for each."""
    magics = PoolMagics(shell=None)
    parts = [f"```text\n{overview()}\n```"]
    parts += [f"## {name}\n\n```text\n{magics.parser(name).help_text()}\n```" for name in VERBS]
    return "\n\n".join(parts)


def _complete(_app: Any, page: str, text: list[str]) -> None:
    """Add to a page what is no text of it: the contents to the README, the help to the verbs."""
    if page == root_doc:
        text[0] += _CONTENTS
    if page == "docs/verbs":
        text[0] = text[0].replace("<!-- the help of each verb -->", _help_of_all_verbs())


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _complete)
