"""Find the code blocks and commands of the documentation.

A block that is not tried carries a comment right before it::

    <!-- not run: needs a card -->
"""
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from ..command import ROOT

PAGES = sorted(
    p.relative_to(ROOT) for p in [
        ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', *(
            ROOT / 'docs').rglob('*.md'), *(ROOT / 'configs').rglob('*.md')
    ] if '_build' not in p.parts)
SHELL = ('bash', 'shell', 'sh', 'console')
PYTHON = ('python', 'py')
#: Languages of blocks in which there is nothing to run.
TEXT = ('', 'text', 'json', 'yaml', 'bibtex', 'csv')
COMMAND = re.compile(r'`((?:python |bash |make |pip install |mim |--cfg-'
                     r'options )[^`]+)`')
FENCE = re.compile(r'^( *)(`{3,}|~{3,})(.*)$')
MARK = re.compile(r'^<!-- not run:(.*)-->$')


@dataclass
class Block:
    """A fenced block.

    Args:
        page (Path): Where it stands.
        line (int): Number of its first fence.
        language (str): What follows the fence.
        text (str): Its lines.
        reason (str, optional): Why it is not run, of the mark before it; an
            empty one is a fault. None without a mark.
    """
    page: Path
    line: int
    language: str
    text: str
    reason: Optional[str]

    def __str__(self) -> str:
        return f'{self.page}:{self.line}'


def find_blocks(page: Path, text: Optional[str] = None) -> List[Block]:
    """Collect the fenced blocks of a page, MyST's directives left out."""
    text = (ROOT / page).read_text() if text is None else text
    blocks, fence, lines, reason = [], None, [], None
    for number, line in enumerate(text.splitlines(), 1):
        found = FENCE.match(line)
        if fence is None and found:
            fence, lines, start = found, [], number
        elif fence and found and line.strip() == fence[2]:
            language = fence[3].strip()
            if not language.startswith('{'):
                blocks.append(
                    Block(page, start, language, '\n'.join(lines), reason))
            fence = reason = None
        elif fence:
            lines.append(line[len(fence[1]):])
        elif line.strip():
            mark = MARK.match(line.strip())
            reason = mark[1].strip() if mark else None
    assert fence is None, f'{page}:{start} is never closed'
    return blocks


def find_inline_commands(page: Path) -> List[str]:
    """Collect the commands within the text of a page."""
    text, fence = [], None
    for line in (ROOT / page).read_text().splitlines():
        found = FENCE.match(line)
        if found and (fence is None or line.strip() == fence[2]):
            fence = None if fence else found
        elif fence is None:
            text.append(line)
    return [' '.join(c.split()) for c in COMMAND.findall('\n'.join(text))]
