"""SVG that is part of a page and follows its colours."""
import io
import re
from typing import Callable, Sequence

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

#: Colours that are exchanged for the page's, so that figures follow light
#: and dark.
PAGE = dict(
    ink='#010203',
    muted='#040506',
    line='#070809',
    teacher='#0a0b0c',
    scratch='#0d0e0f',
    transmamba='#101112',
    good='#131415',
    bad='#161718')
STYLE = {
    'svg.fonttype': 'none',
    'font.size': 10.5,
    'text.color': PAGE['ink'],
    'axes.labelcolor': PAGE['muted'],
    'axes.edgecolor': PAGE['line'],
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': PAGE['line'],
    'grid.linewidth': 0.7,
    'xtick.color': PAGE['muted'],
    'ytick.color': PAGE['muted'],
    'xtick.major.size': 0,
    'ytick.major.size': 0,
    'legend.frameon': False,
    'legend.borderaxespad': 0,
    'legend.borderpad': 0.2,
    'legend.handlelength': 1.3,
    'legend.columnspacing': 1.2,
    'lines.linewidth': 2,
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
}
#: Inches, so that text stays readable when a phone shows the whole width.
SIZE = (4.7, 3.3)


def draw(plot: Callable, salt: str, size: Sequence[float] = SIZE) -> str:
    """Draw a figure.

    Args:
        plot (Callable): Draws into the axes that it is given.
        salt (str): Makes the names inside the figure its own.
        size (Sequence[float]): Width and height in inches.

    Returns:
        str: An ``<svg>`` element.
    """
    with plt.rc_context({**STYLE, 'svg.hashsalt': salt}):
        figure, axes = plt.subplots(figsize=size, layout='constrained')
        try:
            plot(axes)
            handles, names = axes.get_legend_handles_labels()
            if handles:
                figure.legend(
                    handles, names, loc='outside upper left', ncols=3)
            out = io.StringIO()
            figure.savefig(out, format='svg', transparent=True)
        finally:
            plt.close(figure)
    return clean(out.getvalue())


def clean(svg: str) -> str:
    """Make an SVG file part of a page.

    Args:
        svg (str): As matplotlib writes it.

    Returns:
        str: Without prologue, metadata, fixed size, font, and names that
        nothing refers to; with the page's colours.
    """
    svg = svg[svg.index('<svg'):]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.S)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', svg, count=1)
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', '', svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r'font-size: \1', svg)
    for name, colour in PAGE.items():
        svg = svg.replace(colour, f'var(--{name})')
    return svg
