"""Sphinx builds the site of these pages: `make docs`. GitHub shows the same files."""

project = "batches"
copyright = "the authors of batches"
html_title = "batches"
html_theme = "furo"
html_copy_source = False
extensions = ["myst_parser"]
# Links to headings have GitHub's form.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
exclude_patterns = []
