"""A file of results that grows row by row and survives an abort."""
import json
import traceback
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from transmamba_mm.utils.atomic_io import atomic_write

#: What tells rows apart.
KEYS = ('bench', 'model', 'mode', 'timing', 'resolution', 'batch', 'precision',
        'implementation', 'scan', 'shape', 'card', 'torch')


class ResultFile:
    """Rows in a JSON file: one array, a line each.

    A row with the keys of an older one takes its place.

    Args:
        path (str, optional): The file; its rows are read if it exists. None
            keeps the rows in memory only.
        fresh (bool): Whether older rows are forgotten. Defaults to False.
    """

    def __init__(self, path: Optional[str], fresh: bool = False) -> None:
        self.path = path
        self.rows: List[dict] = []
        if path is not None and Path(path).exists() and not fresh:
            self.rows = json.loads(Path(path).read_text())

    def find(self, row: dict, keys: Sequence[str] = KEYS) -> Optional[dict]:
        """Look up a row.

        Args:
            row (dict): Holds the keys looked for.
            keys (Sequence[str]): Which of them must agree. Defaults to all.

        Returns:
            dict, optional: The first such row.
        """
        wanted = _picked(row, keys)
        return next((r for r in self.rows if _picked(r, keys) == wanted), None)

    def add(self, row: dict) -> None:
        """Add or replace a row, and write the file.

        Args:
            row (dict): Values that JSON can hold.
        """
        row = json.loads(json.dumps(row))
        old = self.find(row)
        if old is None:
            self.rows.append(row)
        else:
            self.rows[self.rows.index(old)] = row
        if self.path is not None:
            lines = ',\n'.join(json.dumps(r) for r in self.rows)
            atomic_write(self.path, f'[\n{lines}\n]\n'.encode())


def failure(error: BaseException) -> Dict[str, str]:
    """Write down why a row has no figures.

    Args:
        error (BaseException): What was raised.

    Returns:
        Dict[str, str]: ``error``, its kind and first line, and ``where``, the
        line of code of the error that came first.
    """
    lines = str(error).strip().splitlines() or ['']
    first = error
    while first.__context__ is not None:
        first = first.__context__
    frames = traceback.extract_tb(first.__traceback__)
    where = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else ''
    return dict(error=f'{type(error).__name__}: {lines[0]}'[:300], where=where)


def _picked(row: dict, keys: Sequence[str]) -> Dict[str, str]:
    return {key: json.dumps(row.get(key)) for key in keys}
