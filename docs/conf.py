import re
from collections import namedtuple

import jaxft

project = "jaxft"
author = "the jaxft authors"
release = version = jaxft.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
napoleon_use_ivar = True
autodoc_typehints = "none"
html_theme = "furo"
html_title = f"jaxft {release}"
html_copy_source = False

FIELD = type(namedtuple("Pair", "left right").left)


def plain(app, what, name, obj, options, lines):
    """Keeps the bars and underscores of equations from being markup; code and examples stay as they are."""
    example = False
    for place, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = re.split(r"(``.*?``)", line)
            parts[::2] = [re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", part.replace("|", r"\|")) for part in parts[::2]]
            lines[place] = "".join(parts)


def setup(app):
    """Leaves out the fields of a named tuple, which its docstring already describes under Attributes."""
    app.connect("autodoc-process-docstring", plain, priority=900)
    app.connect(
        "autodoc-skip-member", lambda app, what, name, obj, skip, options: True if isinstance(obj, FIELD) else None
    )
