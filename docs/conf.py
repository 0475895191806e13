"""How Sphinx makes the site: ``python -m sphinx -W --keep-going -n docs build/site``."""

import sys
from pathlib import Path

import incnet

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "incnet"
author = "The incnet developers"
copyright = "the incnet developers, MIT licence"
version = release = incnet.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx.ext.napoleon",
    "api",
    "figures",
    "links",
    "live",
    "options",
    "sources",
]
exclude_patterns = ["results/runs", "results/studies"]

# Markdown. Headings can be linked to, as on GitHub.
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3

# The API. Optional packages need not be there: what a docstring says does not depend on them.
autodoc_mock_imports = ["cupy", "distributed", "mpi4py", "tensorboard"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
autosummary_generate = False
suppress_warnings = ["autosummary.import_cycle"]
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # types are words for people, not references
napoleon_custom_sections = [("Attributes", "params_style")]

# The book's chapters are executed, each once: what they print and draw is kept until their text changes.
nb_execution_mode = "cache"
nb_execution_timeout = 600  # of a cell, in seconds: a busy machine may be slow
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

highlight_language = "text"  # commands and formulas, where no language is said
smartquotes = False  # what is quoted is often code

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "incnet"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}
