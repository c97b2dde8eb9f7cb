"""A picture of what was found."""
import io
import textwrap
from typing import Sequence

import numpy as np
from matplotlib.figure import Figure

#: Width and height in inches of a thumbnail, and characters a line.
_THUMB, _CHARS = 1.1, 26


def draw_sheet(texts: Sequence[str], captions: Sequence[Sequence[str]],
               clips: Sequence[Sequence[np.ndarray]]) -> bytes:
    """Draw the clips that were found, one row a text.

    Args:
        texts (Sequence[str]): What was looked for.
        captions (Sequence[Sequence[str]]): A line for each clip of each text.
        clips (Sequence[Sequence[np.ndarray]]): Some frames (T, H, W, 3) of
            each clip of each text.

    Returns:
        bytes: A PNG file.
    """
    columns = max((len(row) for row in clips), default=0)
    strip = max((len(clip) for row in clips for clip in row), default=1)
    figure = Figure(
        figsize=(2.4 + columns * strip * _THUMB,
                 0.4 + len(texts) * (_THUMB + 0.45)))
    grid = figure.subplots(
        len(texts),
        columns + 1,
        squeeze=False,
        width_ratios=[2.2] + [strip * _THUMB] * columns)
    for row, text in enumerate(texts):
        lines = '\n'.join(textwrap.wrap(text, _CHARS)[:6])
        # a caption is no formula, whatever dollars it holds
        grid[row][0].text(
            0, 0.5, lines, va='center', fontsize=9, parse_math=False)
        for axes in grid[row]:
            axes.set_axis_off()
        for axes, clip, caption in zip(grid[row][1:], clips[row],
                                       captions[row]):
            axes.imshow(np.concatenate(list(clip), axis=1))
            axes.set_title(caption, fontsize=8, parse_math=False)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    return file.getvalue()
