"""What each scan direction contributes, as pictures."""
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from transmamba_mm.distillation import LayerRecorder
from .feature_map import find_layout

#: How the channels of a token become a colour.
KINDS = ('pca', 'norm')


@torch.no_grad()
def direction_maps(backbone: nn.Module,
                   images: Tensor,
                   layers: Sequence[int] = (-1, ),
                   kind: str = 'pca') -> Dict[int, Tensor]:
    """Record what every scan direction adds to the tokens, and colour it.

    That is the feature which the distiller teaches, less the input of the
    block; a VMamba block adds the same MLP to each.

    Args:
        backbone (nn.Module): A backbone of this package, in eval mode.
        images (Tensor): Normalised images (B, C, H, W).
        layers (Sequence[int]): Indices of blocks; negative ones count from
            the end. Defaults to the last one.
        kind (str): What is shown (our choice):

            - 'pca': the three strongest principal components as red, green
              and blue, the same for all directions of an image.
            - 'norm': the norm over the channels.

            Defaults to 'pca'.

    Returns:
        Dict[int, Tensor]: Layer to maps (B, M, H, W, 3) in [0, 1] for 'pca',
        (B, M, H, W) for 'norm', on the CPU.

    Raises:
        ValueError: If the backbone has no directions, or ``kind`` or a layer
            is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f'kind={kind!r} is unknown; use one of {KINDS}.')
    blocks = find_blocks(backbone, layers)
    taps = [f'{name}.direction_tap' for name in blocks.values()]
    with LayerRecorder(backbone, taps) as records, \
            _inputs(backbone, blocks) as inputs:
        backbone(images)
    maps = {}
    for (layer, x), tap in zip(inputs.items(), taps):
        added = (records[tap] - x).float().transpose(0, 1)  # (B, M, L, C)
        layout = find_layout(backbone, added.shape[2], images.shape[-2:])
        patches = layout.split(added)[0]
        colours = _principal_colours(patches) if kind == 'pca' else \
            patches.norm(dim=-1)
        maps[layer] = colours.unflatten(2, layout.grid).cpu()
    return maps


@contextmanager
def _inputs(backbone: nn.Module,
            blocks: Dict[int, str]) -> Iterator[Dict[int, Tensor]]:
    """Record the inputs of some blocks."""
    seen: Dict[int, Tensor] = {}

    def keep(layer: int) -> Callable:

        def hook(module: nn.Module, args: tuple) -> None:
            seen[layer] = args[0]

        return hook

    handles = [
        backbone.get_submodule(name).register_forward_pre_hook(keep(layer))
        for layer, name in blocks.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def find_blocks(backbone: nn.Module, layers: Sequence[int]) -> Dict[int, str]:
    """Find some blocks of a backbone.

    Args:
        backbone (nn.Module): A backbone of this package.
        layers (Sequence[int]): Indices of blocks.

    Returns:
        Dict[int, str]: Index, counted from 0, to the path of the block, in
        the order of the forward.

    Raises:
        ValueError: If the backbone has no directions or no such layer.
    """
    names: List[str] = getattr(backbone, 'block_names', [])
    if not names or not backbone.direction_names:
        raise ValueError(
            f'{type(backbone).__name__} has no scan directions: take a '
            'backbone of this package, such as transmamba_mm.VisionMamba.')
    bad = [i for i in layers if not -len(names) <= i < len(names)]
    if bad:
        raise ValueError(
            f'There are no layers {bad}: {type(backbone).__name__} has '
            f'{len(names)}; use values from {-len(names)} to '
            f'{len(names) - 1}.')
    return {i: names[i] for i in sorted({i % len(names) for i in layers})}


def _principal_colours(patches: Tensor) -> Tensor:
    """Colour tokens (B, M, L, C) by principal components, (B, M, L, 3)."""
    pictures = []
    for image in patches:
        rows = image.flatten(0, 1).double()
        rows = rows - rows.mean(0)
        _, _, axes = torch.linalg.svd(rows, full_matrices=False)
        axes = torch.nn.functional.pad(axes[:3], (0, 0, 0, 3 - len(axes[:3])))
        # a component has no sign of its own
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        scores = rows @ (axes * largest.sign()).T
        low, high = torch.quantile(
            scores,
            torch.tensor([0.01, 0.99],
                         dtype=scores.dtype,
                         device=scores.device),
            dim=0)
        scores = (scores - low) / (high - low).clamp(min=1e-12)
        pictures.append(scores.clamp(0, 1).unflatten(0, image.shape[:2]))
    return torch.stack(pictures).float()


def draw_direction_maps(image: np.ndarray,
                        maps: Dict[int, Tensor],
                        names: Sequence[str],
                        title: Optional[str] = None) -> Figure:
    """Draw the directions of one image, one row a layer.

    Args:
        image (np.ndarray): The picture itself, RGB, uint8, (H, W, 3).
        maps (Dict[int, Tensor]): Layer to maps (M, H, W, 3) or (M, H, W).
        names (Sequence[str]): Names of the M directions.
        title (str, optional): Over the whole figure. Defaults to None.

    Returns:
        Figure: The image in the first column, then the directions.
    """
    figure = Figure(
        figsize=(1.9 * (1 + len(names)) + 0.6, 2.1 * len(maps) + 0.3),
        layout='constrained')
    grid = figure.subplots(len(maps), 1 + len(names), squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, (layer, picture) in zip(grid, maps.items()):
        row[0].imshow(image)
        row[0].set_ylabel(f'layer {layer}')
        top = float(picture.max())
        for axes, one in zip(row[1:], picture):
            drawn = axes.imshow(one.numpy(), vmin=0, vmax=top, cmap='viridis')
        if picture.dim() == 3:
            figure.colorbar(drawn, ax=row, label='norm of what is added')
    for axes, name in zip(grid[0], ('image', *names)):
        axes.set_title(name, fontsize='medium')
    if title is not None:
        figure.suptitle(title, fontsize='medium')
    return figure


def parse_layers(backbone: nn.Module, layers: Union[Sequence[int],
                                                    None]) -> List[int]:
    """Choose layers, if none are told.

    Args:
        backbone (nn.Module): A backbone of this package.
        layers (Sequence[int], optional): Indices of blocks.

    Returns:
        List[int]: These, or the first, the middle and the last one.
    """
    if layers is not None:
        return list(layers)
    last = len(getattr(backbone, 'block_names', [])) - 1
    return list(dict.fromkeys((0, last // 2, max(last, 0))))
