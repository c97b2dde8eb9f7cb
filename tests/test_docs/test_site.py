"""What the site's build with warnings as errors does not see."""
import re
from pathlib import Path

import pytest

from ..command import ROOT
from .blocks import PAGES

LINK = re.compile(r'\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)')
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


def broken_links(page, text):
    """List the links to files or headings that do not exist."""
    broken = []
    for link, heading in LINK.findall(text):
        target = ROOT / page.parent / link if link else ROOT / page
        if not target.exists():
            broken.append(link)
        elif heading and heading not in headings(
                target.read_text() if link else text):
            broken.append(f'{link}#{heading}')
    return broken


def headings(text):
    """Name the headings as links do."""
    lines = re.findall(r'^#+ (.*)$', text, re.M)
    return [re.sub(r'[^\w -]', '', h).lower().replace(' ', '-') for h in lines]


@pytest.mark.parametrize('page', PAGES, ids=str)
def test_links_lead_somewhere(page):
    assert not broken_links(page, (ROOT / page).read_text())


@pytest.mark.parametrize('page', PAGES, ids=str)
def test_no_merge_has_left_its_marks(page):
    text = (ROOT / page).read_text()
    assert not re.search(r'^(<{7}|>{7}|\|{7}) ', text, re.M)


def test_broken_links_are_found():
    text = ('# Some page\n[a](no.md) [b](#some-page) [c](#other)\n'
            '[d](install.md#cpu) [e](install.md#gpu) [f](https://x.org/y)')
    assert broken_links(Path('docs/get_started/swap.md'),
                        text) == ['no.md', '#other', 'install.md#gpu']


@pytest.mark.parametrize('package', PACKAGES)
def test_every_package_has_a_place_in_the_reference(package):
    shown = SHOWN_ELSEWHERE.get(package, package)
    assert re.search(rf'automodule:: {re.escape(shown)}$', API, re.M)


def test_pages_are_in_a_menu():
    """By their name, or by the pattern of their folder."""
    menu = set(re.split(r'[\s<>]',
                        (ROOT / 'docs/index.md').read_text())) - {''}
    for page in PAGES:
        if page.parts[0] == 'docs':
            name = page.relative_to('docs').with_suffix('')
            assert menu & {str(name), str(name.parent / '*')}, page
