"""What all pictures share: colours that everybody can tell apart, files."""
import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Colours that the colour-blind can tell apart, without the yellow, which is
#: too light for lines. Source: Okabe and Ito, "Color Universal Design".
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00',
           '#000000')
#: Line styles, for what shares a colour.
STYLES = ('-', '--', ':', '-.')


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as a file.

    Args:
        figure (Figure): The figure.
        dpi (int): Pixels an inch. Defaults to 150.

    Returns:
        bytes: A PNG file.
    """
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=dpi, bbox_inches='tight')
    return file.getvalue()


def to_array(figure: Figure, dpi: int = 100) -> np.ndarray:
    """Render a figure as pixels, such as a visualizer takes.

    Args:
        figure (Figure): The figure.
        dpi (int): Pixels an inch. Defaults to 100.

    Returns:
        np.ndarray: RGB, uint8, shape (H, W, 3).
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
