import json
from dataclasses import asdict, dataclass, field
from typing import List

from rich.console import Console
from rich.table import Table


@dataclass
class Row:
    """What happened to one student tensor.

    Args:
        tensor (str): Student tensor.
        source (str): Teacher tensor, '' if there is none.
        action (str): 'copied', 'sliced', 'padded', 'resized' or 'skipped'.
        taken (int): Elements that come from the teacher.
        total (int): Elements of the tensor.
        reason (str): Why it was skipped or changed.
    """
    tensor: str
    source: str
    action: str
    taken: int
    total: int
    reason: str = ''


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
        return (f'Weight subcloning: {counts}; {self.taken:,} of '
                f'{self.total:,} parameters ({self.percent:.1f} %) come from '
                'the teacher.')

    def to_table(self) -> str:
        """Format as a text table.

        Returns:
            str: One line a tensor.
        """
        table = Table(box=None, pad_edge=False)
        for name in ('tensor', 'source', 'action', 'taken', 'reason'):
            table.add_column(name, no_wrap=True)
        for r in self.rows:
            table.add_row(r.tensor, r.source, r.action,
                          f'{r.taken:,}/{r.total:,}', r.reason)
        console = Console(width=200, color_system=None)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

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
                rows=[asdict(r) for r in self.rows]),
            indent=2)
