"""How one library names the tensors of a Transformer."""
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from torch import Tensor

from ..teacher_state import Entry

#: Name in the file, canonical name, and what is made of the tensor. In both
#: names '{i}' is the block's number and '*' is 'weight' or 'bias'.
Row = Tuple[str, ...]


@dataclass(frozen=True)
class Tower:
    """One Transformer in a file.

    Args:
        name (str): 'vision', 'text' or 'projector'.
        groups (Tuple): Pairs of a prefix (regular expression) and the rows
            for the names that follow it.
        needs (Tuple[str, ...]): Canonical names without which the tower is
            not there.
    """
    name: str
    groups: Tuple[Tuple[str, Tuple[Row, ...]], ...]
    needs: Tuple[str, ...] = ('layers.0.q.weight', )

    def entries(self, keys: Iterable[str]) -> Dict[str, Entry]:
        """Find the tower's tensors.

        Args:
            keys (Iterable[str]): Names in the file.

        Returns:
            Dict[str, Entry]: Canonical name to where it comes from; of two
            names for one tensor the earlier row's counts.
        """
        found: Dict[str, Tuple[int, Entry]] = {}
        for key in keys:
            for rank, (pattern, name,
                       form) in enumerate(_compile(self.groups)):
                match = pattern.fullmatch(key)
                if match is None:
                    continue
                for target, entry in _expand(match, name, form, key):
                    if target not in found or rank < found[target][0]:
                        found[target] = (rank, entry)
                break
        return {name: entry for name, (_, entry) in found.items()}


@dataclass(frozen=True)
class Dialect:
    """The names that one library gives.

    Args:
        name (str): For messages.
        towers (Tuple[Tower, ...]): Transformers that its files can hold.
        example (str): A typical name, for messages.
        ignored (Tuple[str, ...]): Regular expressions of names that belong
            to its files but to no canonical tensor.
    """
    name: str
    towers: Tuple[Tower, ...]
    example: str
    ignored: Tuple[str, ...] = ()

    def read(self, keys: Iterable[str]) -> Dict[str, Dict[str, Entry]]:
        """Find the towers that a file holds.

        Args:
            keys (Iterable[str]): Names in the file.

        Returns:
            Dict[str, Dict[str, Entry]]: Tower to its tensors; empty if the
            file is of another dialect.
        """
        keys = list(keys)
        read = {tower.name: tower.entries(keys) for tower in self.towers}
        return {
            tower.name: read[tower.name]
            for tower in self.towers
            if all(name in read[tower.name] for name in tower.needs)
        }

    def known(self, keys: Iterable[str]) -> List[str]:
        """List the names that the dialect has a row for.

        Args:
            keys (Iterable[str]): Names in the file.

        Returns:
            List[str]: Some of them.
        """
        rows = [row for t in self.towers for row in _compile(t.groups)]
        return [k for k in keys if any(row[0].fullmatch(k) for row in rows)]


@lru_cache(maxsize=None)
def _compile(groups: tuple) -> List[Tuple['re.Pattern', str, str]]:
    """Turn a tower's rows into regular expressions."""
    out = []
    for prefix, rows in groups:
        for row in rows:
            pattern = re.escape(row[0]).replace(r'\{i\}', r'(?P<i>\d+)')
            pattern = pattern.replace(r'\*', '(?P<end>weight|bias)')
            form = row[2] if len(row) > 2 else ''
            out.append((re.compile(prefix + pattern), row[1], form))
    return out


def _expand(match: 're.Match', name: str, form: str,
            key: str) -> List[Tuple[str, Entry]]:
    """Canonical names that one tensor of the file fills."""
    for group, value in match.groupdict().items():
        name = name.replace('{i}' if group == 'i' else '*', value)
    if form == 'qkv':
        return [(name.replace('.qkv.', f'.{part}.'),
                 Entry(key, partial(third, number=number)))
                for number, part in enumerate('qkv')]
    return [(name, Entry(key, FORMS[form]))]


def third(tensor: Tensor, number: int) -> Tensor:
    """Cut q, k or v out of a fused projection.

    Args:
        tensor (Tensor): Weight (3H, D) or bias (3H,).
        number (int): 0, 1 or 2.

    Returns:
        Tensor: A view (H, D) or (H,).
    """
    return tensor.chunk(3, dim=0)[number]


def _row(tensor: Tensor) -> Tensor:
    """Give an embedding (L, D) or token (D,) its batch axis."""
    return tensor[None]


def _token(tensor: Tensor) -> Tensor:
    """Shape a token (D,) or (1, 1, D) as the latter."""
    return tensor.reshape(1, 1, -1)


def _transpose(tensor: Tensor) -> Tensor:
    """Turn a matrix for x @ W into one for a linear layer."""
    return tensor.t()


#: What is made of a file's tensor; 'qkv' beside cuts it into three.
FORMS: Dict[str, Optional[Callable[[Tensor], Tensor]]] = {
    '': None,
    'tokens': _row,
    'token': _token,
    'transpose': _transpose,
}
