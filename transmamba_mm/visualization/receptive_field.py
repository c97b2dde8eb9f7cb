"""Effective receptive field: which pixels the centre of a map depends on.

Source: Luo et al., `Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks <https://arxiv.org/abs/1701.04128>`_.
"""
from typing import Dict, Optional, Sequence

import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn

from transmamba_mm.distillation import LayerRecorder
from .feature_map import feature_maps, to_feature_map


def effective_receptive_field(backbone: nn.Module,
                              images: Tensor,
                              layer: Optional[str] = None,
                              batch_size: int = 8) -> Tensor:
    """Differentiate the centre of a feature map by the input.

    Each pixel gets the norm of the derivatives of all channels of the centre
    token (H // 2, W // 2) by its colours, the root mean square over the
    images. It is estimated by one random sign a channel and image (our
    choice: the plain sum of the channels is constant after a LayerNorm).

    Args:
        backbone (nn.Module): A backbone of this package or of MMPretrain; its
            mode is left as it is, so call ``eval()`` before.
        images (Tensor): Normalised images (N, C, H, W).
        layer (str, optional): Path of a layer in the backbone; None takes
            the last output. Defaults to None.
        batch_size (int): Images at once. Defaults to 8.

    Returns:
        Tensor: Shape (H, W), float32, on the CPU; not scaled.

    Raises:
        ValueError: If the features are no map, or there is no such layer.
    """
    total = torch.zeros(images.shape[-2:])
    generator = torch.Generator().manual_seed(0)
    for batch in images.split(batch_size):
        batch = batch.detach().requires_grad_()
        with feature_maps(backbone), torch.enable_grad():
            output = _run(backbone, batch, layer)
        maps = to_feature_map(output, backbone, batch.shape[-2:])
        height, width = maps.shape[-2:]
        centre = maps[..., height // 2, width // 2].float()  # (B, C)
        signs = torch.randint(0, 2, centre.shape, generator=generator) * 2 - 1
        gradient, = torch.autograd.grad(centre, batch, signs.to(centre))
        total += gradient.square().sum((0, 1)).float().cpu()
    return (total / len(images)).sqrt()


def _run(backbone: nn.Module, batch: Tensor, layer: Optional[str]) -> object:
    """Return the last output, or that of a layer."""
    if layer is None:
        outputs = backbone(batch)
        return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs
    with LayerRecorder(backbone, [layer]) as records:
        backbone(batch)
    return records[layer]


def contribution_area(field: Tensor, share: float) -> float:
    """Measure how large a receptive field is.

    Args:
        field (Tensor): From :func:`effective_receptive_field`, (H, W).
        share (float): Share of the whole gradient, in (0, 1].

    Returns:
        float: The least share of the pixels that holds it, in (0, 1],
        wherever they lie.
    """
    values = field.double().flatten().sort(descending=True).values
    # rounding must not ask for more than there is
    wanted = share * values.sum() * (1 - 1e-12)
    count = int((values.cumsum(0) < wanted).sum()) + 1
    return min(count, len(values)) / len(values)


def draw_receptive_fields(
    fields: Dict[str,
                 Tensor], shares: Sequence[float] = (0.5, 0.95)) -> Figure:
    """Draw receptive fields side by side, on one logarithmic scale.

    Args:
        fields (Dict[str, Tensor]): Name to field (H, W).
        shares (Sequence[float]): Under each picture stands in how many of
            the pixels these shares of the gradient lie. Defaults to 50 and
            95 per cent.

    Returns:
        Figure: One panel a field, each relative to its largest value.
    """
    columns = min(4, len(fields))
    rows = -(-len(fields) // columns)
    figure = Figure(
        figsize=(3.2 * columns + 0.8, 3.6 * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    scale = LogNorm(vmin=1e-4, vmax=1, clip=True)
    for axes, (name, field) in zip(grid.flat, fields.items()):
        relative = field / field.max().clamp(min=1e-30)
        image = axes.imshow(
            relative.clamp(min=1e-4).numpy(), norm=scale, cmap='viridis')
        axes.set_title(name, fontsize='medium')
        reach = [
            f'{share:.0%} of the gradient in '
            f'{contribution_area(field, share):.1%} of the pixels'
            for share in shares
        ]
        axes.set_xlabel('\n'.join(reach), fontsize='small')
    for axes in list(grid.flat)[len(fields):]:
        axes.remove()
    figure.colorbar(image, ax=grid, label='gradient, relative to the largest')
    return figure
