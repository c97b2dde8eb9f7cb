"""Which rows are measured, the most important first."""
import fnmatch
from dataclasses import dataclass
from typing import List, Optional, Sequence

from .models import MODELS

#: Sides in pixels, the first being the main one, and the batches.
RESOLUTIONS = (224, 512, 1024, 1440, 2048, 3200)
BATCHES = {224: 128, 512: 16, 1024: 16, 1440: 8, 2048: 4, 3200: 2}
#: Where only the pair is measured that shows who overtakes whom.
CROSSING_SIDES = (1440, 3200)
CROSSING_PAIR = ('deit-tiny', 'vim-tiny')
IMPLEMENTATIONS = ('deit', 'ours', 'official', 'mamba_ssm')
#: Pattern of their names.
ALL_ROWS = ('*', )
#: (mode, timing), by importance.
_FORMS = (('infer', 'graph'), ('train', 'graph'), ('infer', 'eager'),
          ('train', 'eager'))


@dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        model (str): A key of ``MODELS``.
        implementation (str): One of ``IMPLEMENTATIONS``.
        mode (str): 'infer' or 'train'.
        timing (str): 'eager' or 'graph'.
        resolution (int): Side of the images in pixels.
        batch (int): Images of a call.
    """
    model: str
    implementation: str
    mode: str
    timing: str
    resolution: int
    batch: int

    @property
    def name(self) -> str:
        """Name that ``--rows`` is compared with."""
        return (f'{self.model}/{self.implementation}/{self.mode}/'
                f'{self.timing}/{self.resolution}/b{self.batch}')


def plan(resolutions: Sequence[int] = RESOLUTIONS,
         batch: Optional[int] = None,
         graphs: bool = True,
         official: bool = True,
         patterns: Sequence[str] = ALL_ROWS) -> List[Row]:
    """List the rows, the most important first.

    Args:
        resolutions (Sequence[int]): Sides in pixels; the first is the main
            one. Defaults to ``RESOLUTIONS``.
        batch (int, optional): Batch instead of ``BATCHES``. Defaults to None.
        graphs (bool): Whether CUDA graphs can be timed. Defaults to True.
        official (bool): Whether there are official checkouts. Defaults to
            True.
        patterns (Sequence[str]): Only rows whose name fits one of these
            shell patterns. Defaults to all.

    Returns:
        List[Row]: DeiT comes before what is compared with it.
    """
    rows = []
    for side in resolutions:
        main = side == resolutions[0]
        for mode, timing in _FORMS:
            for model in MODELS:
                for implementation in _implementations(model):
                    size = batch or BATCHES.get(side) or _guess_batch(side)
                    rows.append(
                        Row(model, implementation, mode, timing, side, size))
                    if main and mode == 'infer' and size > 1:
                        rows.append(
                            Row(model, implementation, mode, timing, side, 1))
    rows = [
        r for r in rows if (graphs or r.timing == 'eager') and (
            official or r.implementation != 'official')
        and _is_wanted(r, resolutions[0]) and any(
            fnmatch.fnmatch(r.name, p) for p in patterns)
    ]
    return sorted(rows, key=lambda r: _rank(r, resolutions[0]))


def _implementations(model: str) -> Sequence[str]:
    if MODELS[model].family == 'deit':
        return ('deit', )
    return IMPLEMENTATIONS[1:]


def _guess_batch(side: int) -> int:
    return max(1, BATCHES[224] * 224**2 // side**2)


def _is_wanted(row: Row, main: int) -> bool:
    if row.resolution in CROSSING_SIDES and row.resolution != main:
        return row.model in CROSSING_PAIR and row.mode == 'infer' and \
            row.implementation != 'mamba_ssm'
    if row.implementation == 'mamba_ssm' and row.resolution != main and \
            (row.mode, row.timing) != _FORMS[0]:
        return False
    if row.batch == 1:  # latency
        return not MODELS[row.model].is_small
    return True


def _rank(row: Row, main: int) -> tuple:
    """Sort key: tier, form, side, model."""
    form = _FORMS.index((row.mode, row.timing))
    graphed = form == 0
    small = row.resolution == main
    if row.implementation == 'mamba_ssm':
        tier = 5 if small else 8
    elif small:
        tier = 1 if row.batch == 1 else 0
    elif row.implementation == 'official':
        tier = 4 if row.mode == 'infer' else 7
    elif graphed:
        tier = 2 if row.model in CROSSING_PAIR else 3
    elif row.implementation == 'deit':
        tier = 4 if row.mode == 'infer' else 6
    else:
        tier = 6
    return (tier, form, row.resolution, list(MODELS).index(row.model),
            IMPLEMENTATIONS.index(row.implementation))
