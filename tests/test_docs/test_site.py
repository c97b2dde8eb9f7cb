"""What the site's build with warnings as errors does not see."""
import re

import pytest

from ..command import ROOT
from .blocks import PAGES

LINK = re.compile(r'\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)')
API = '\n'.join(p.read_text() for p in (ROOT / 'docs/api').glob('*.md'))
PACKAGES = sorted('.'.join(p.parent.relative_to(ROOT).parts)
                  for p in (ROOT / 'transmamba_mm').rglob('__init__.py')
                  if '__all__' in p.read_text() and '.mim' not in p.parts)
#: Packages whose names another one, which is shown, gives too.
SHOWN_ELSEWHERE = {
    'transmamba_mm.datasets.transforms': 'transmamba_mm.datasets',
    'transmamba_mm.datasets.vqa': 'transmamba_mm.datasets',
    'transmamba_mm.evaluation.metrics': 'transmamba_mm.evaluation',
}


@pytest.mark.parametrize('page', PAGES, ids=str)
def test_links_lead_somewhere(page):
    """In the repository too, where Sphinx has no part."""
    folder = (ROOT / page).parent
    assert not [
        link for link in LINK.findall((ROOT / page).read_text())
        if not (folder / link).exists()
    ]


@pytest.mark.parametrize('package', PACKAGES)
def test_every_package_has_a_place_in_the_reference(package):
    shown = SHOWN_ELSEWHERE.get(package, package)
    assert re.search(rf'automodule:: {re.escape(shown)}$', API, re.M)


def test_pages_are_in_a_menu():
    """By their name, or by the pattern of their folder."""
    menu = set(
        re.split(r'[\s<>]', (ROOT / 'docs/index.md').read_text())) - {''}
    for page in PAGES:
        if page.parts[0] == 'docs':
            name = page.relative_to('docs').with_suffix('')
            assert menu & {str(name), str(name.parent / '*')}, page
