"""Settings of the documentation site; ``make docs`` builds it."""
import os.path as osp
import sys

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, ROOT)

import transmamba_mm  # noqa: E402  (repairs torchvision for autodoc)

project = 'transmamba_mm'
author = 'the authors of transmamba_mm'
copyright = author
release = version = transmamba_mm.__version__

extensions = [
    'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx_copybutton'
]
exclude_patterns = ['_build']
# links out of this folder, which tests/test_docs/test_site.py follows
suppress_warnings = ['myst.xref_missing']
myst_heading_anchors = 3
myst_url_schemes = ('http', 'https')

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = {'members': True}
napoleon_numpy_docstring = False

# 'l1' is what a config says
smartquotes = False

html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_title = f'transmamba_mm {release}'
