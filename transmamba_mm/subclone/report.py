import json
import re
from dataclasses import asdict, dataclass, field
from typing import Dict, List

from rich.console import Console
from rich.table import Table

#: Path, number of the block, and the name inside it.
_BLOCK = re.compile(r'(layers\.\d+\.blocks\.|layers\.)(\d+)\.(.+)')


@dataclass
class Row:
    """What happened to one student tensor.

    Args:
        tensor (str): Student tensor.
        source (str): Teacher tensor, '' if there is none.
        action (str): 'copied', 'sliced', 'padded', 'resized', 'factorised'
            or 'skipped'.
        taken (int): Elements that come from the teacher.
        total (int): Elements of the tensor.
        reason (str): Why it was skipped or changed.
        from_mamba (int): Elements that come from a Mamba checkpoint.
            Defaults to 0.
    """
    tensor: str
    source: str
    action: str
    taken: int
    total: int
    reason: str = ''
    from_mamba: int = 0

    def note(self, text: str) -> None:
        """Add to the reason.

        Args:
            text (str): What else is to say.
        """
        self.reason = f'{self.reason}; {text}' if self.reason else text


@dataclass
class SubcloneReport:
    """What a subcloning did, tensor by tensor.

    Args:
        rows (List[Row]): One a student tensor.
    """
    rows: List[Row] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """int: Elements that come from the teacher."""
        return sum(r.taken for r in self.rows)

    @property
    def from_mamba(self) -> int:
        """int: Elements that come from a Mamba checkpoint."""
        return sum(r.from_mamba for r in self.rows)

    @property
    def total(self) -> int:
        """int: Elements of the student."""
        return sum(r.total for r in self.rows)

    @property
    def percent(self) -> float:
        """float: Share of the student that comes from the teacher."""
        return 100. * self.taken / max(1, self.total)

    def summary(self) -> str:
        """Say in one line what was done.

        Returns:
            str: Counts by action, and the share.
        """
        actions = [r.action for r in self.rows]
        counts = ', '.join(f'{actions.count(a)} {a}'
                           for a in sorted(set(actions)))
        text = (f'Weight subcloning: {counts}; {self.taken:,} of '
                f'{self.total:,} parameters ({self.percent:.1f} %) come from '
                'the teacher')
        if self.from_mamba:
            share = 100 * self.from_mamba / max(1, self.total)
            text += (f', and {self.from_mamba:,} ({share:.1f} %) from the '
                     'Mamba checkpoint')
        return text + '.'

    def to_table(self) -> str:
        """Format as a text table.

        Returns:
            str: One line a tensor; tensors that are skipped for the same
            reason in several blocks share a line.
        """
        table = Table(box=None, pad_edge=False)
        for name in ('tensor', 'source', 'action', 'taken', 'reason'):
            table.add_column(name, no_wrap=True)
        for r in merge_blocks(self.rows):
            table.add_row(r.tensor, r.source, r.action,
                          f'{r.taken + r.from_mamba:,}/{r.total:,}', r.reason)
        console = Console(width=1000, color_system=None)
        with console.capture() as capture:
            console.print(table)
        lines = capture.get().splitlines()
        return '\n'.join(line.rstrip() for line in lines)

    def to_json(self) -> str:
        """Format as JSON.

        Returns:
            str: Totals and rows.
        """
        return json.dumps(
            dict(
                taken=self.taken,
                total=self.total,
                percent=self.percent,
                from_mamba=self.from_mamba,
                rows=[asdict(r) for r in self.rows]),
            indent=2)


def merge_blocks(rows: List[Row]) -> List[Row]:
    """Join the skipped rows that differ in the block's number alone.

    Args:
        rows (List[Row]): Not changed.

    Returns:
        List[Row]: A joined row stands where its first one did, is named as
        in 'layers.{0-3}.norm.weight' and counts the elements of all. Blocks
        of one stage are joined, not those of several.
    """
    groups: Dict[tuple, List[Row]] = {}
    for index, row in enumerate(rows):
        match = _BLOCK.fullmatch(row.tensor)
        is_alone = row.action != 'skipped' or match is None
        key = (index, ) if is_alone else (match[1], match[3], row.reason)
        groups.setdefault(key, []).append(row)
    return [_merge(group) for group in groups.values()]


def _merge(group: List[Row]) -> Row:
    first = group[0]
    if len(group) == 1:
        return first
    path, _, name = _BLOCK.fullmatch(first.tensor).groups()
    numbers = [_BLOCK.fullmatch(row.tensor)[2] for row in group]
    blocks = ','.join(numbers)
    if int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1:
        blocks = f'{numbers[0]}-{numbers[-1]}'
    return Row(f'{path}{{{blocks}}}.{name}', '', first.action, 0,
               sum(row.total for row in group), first.reason)
