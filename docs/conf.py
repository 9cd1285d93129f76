import jaxft

project = "jaxft"
author = "the jaxft authors"
release = version = jaxft.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"jaxft {release}"
html_copy_source = False
