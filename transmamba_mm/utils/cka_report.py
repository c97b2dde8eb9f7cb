"""Show and save how similar layers are."""
import json
import os.path as osp
from typing import Optional, Sequence

from matplotlib.figure import Figure
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.visualization import Visualizer
from torch import Tensor

from transmamba_mm.visualization import to_array, to_png
from .atomic_io import atomic_write


def save_cka(matrix: Tensor,
             layer_map: Sequence[int],
             folder: str,
             visualizer: Optional[Visualizer] = None) -> None:
    """Save a matrix of similarities as ``layer_cka.json`` and as a picture.

    Only the main process writes.

    Args:
        matrix (Tensor): Linear CKA of student and teacher layers (S, T).
        layer_map (Sequence[int]): The teacher layer chosen for each student
            layer.
        folder (str): Where to; an older file is replaced.
        visualizer (Visualizer, optional): Is given the picture too. Defaults
            to None.
    """
    if not is_main_process():
        return
    rows = [[round(v, 6) for v in row] for row in matrix.tolist()]
    report = dict(layer_map=list(layer_map), cka=rows)
    path = osp.join(folder, 'layer_cka')
    atomic_write(f'{path}.json', json.dumps(report, indent=1).encode())
    figure = draw_cka(matrix, layer_map)
    atomic_write(f'{path}.png', to_png(figure))
    if visualizer is not None:
        visualizer.add_image('layer_cka', to_array(figure))
    print_log(
        f'Similarity of the layers (linear CKA): saved as {path}.json and '
        '.png.',
        logger='current')


def draw_cka(matrix: Tensor, layer_map: Sequence[int]) -> Figure:
    """Draw a matrix of similarities.

    Args:
        matrix (Tensor): Shape (S, T).
        layer_map (Sequence[int]): The chosen teacher layers, which get a dot.

    Returns:
        Figure: Student layers by teacher layers.
    """
    num_rows, num_columns = matrix.shape
    figure = Figure(
        figsize=(2 + 0.3 * num_columns, 2 + 0.3 * num_rows),
        layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(
        matrix.numpy(), origin='lower', cmap='viridis', vmin=0, vmax=1)
    axes.plot(
        layer_map,
        range(num_rows),
        linestyle='',
        marker='o',
        markersize=5,
        markerfacecolor='white',
        markeredgecolor='black')
    axes.set_xticks(range(num_columns))
    axes.set_yticks(range(num_rows))
    axes.set_xlabel('teacher layer')
    axes.set_ylabel('student layer')
    figure.colorbar(image, ax=axes, label='linear CKA')
    return figure
