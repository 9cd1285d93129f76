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


def setup(app):
    """Leaves out the fields of a named tuple, which its docstring already describes under Attributes."""
    app.connect(
        "autodoc-skip-member", lambda app, what, name, obj, skip, options: True if isinstance(obj, FIELD) else None
    )
