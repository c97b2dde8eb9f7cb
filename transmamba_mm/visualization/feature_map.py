"""Features as maps, whatever form a backbone gives them."""
import math
from contextlib import contextmanager
from typing import Any, Iterator, Sequence, Tuple

from torch import Tensor, nn

from transmamba_mm.models.layers import TokenLayout
from transmamba_mm.models.teachers.teacher_inputs import output_tensor

#: Attributes by which backbones pool their output.
_POOLING = dict(gap_before_final_norm=False, gap_before_output=False)


@contextmanager
def feature_maps(backbone: nn.Module) -> Iterator[None]:
    """Let a backbone return maps or tokens instead of pooled features.

    Knows ``out_type`` of this package's and of MMPretrain's backbones, and
    the pooling of ConvNeXt and its relatives. All is put back afterwards.

    Args:
        backbone (nn.Module): The backbone.

    Yields:
        None: While the backbone returns maps.
    """
    wanted = {k: v for k, v in _POOLING.items() if hasattr(backbone, k)}
    for kind in ('featmap', 'raw'):
        if kind in getattr(backbone, 'OUT_TYPES', ()):
            wanted['out_type'] = kind
            break
    told = {key: getattr(backbone, key) for key in wanted}
    for key, value in wanted.items():
        setattr(backbone, key, value)
    try:
        yield
    finally:
        for key, value in told.items():
            setattr(backbone, key, value)


def to_feature_map(output: Any, backbone: nn.Module,
                   image_size: Sequence[int]) -> Tensor:
    """Bring the features of a layer into the form of a picture.

    The class token is left out, wherever it stands: a backbone of this
    package tells by its ``token_layout``, any other by ``num_extra_tokens``
    in front.

    Args:
        output (Any): Output of any layer: (B, C, H, W), or tokens (B, L, C),
            also as the first entry of a tuple.
        backbone (nn.Module): The backbone that the layer belongs to.
        image_size (Sequence[int]): Height and width of the images.

    Returns:
        Tensor: Shape (B, C, H, W).

    Raises:
        ValueError: If these are no tokens of an image.
    """
    tokens = output_tensor(output)
    if isinstance(tokens, Tensor) and tokens.dim() == 4:
        return tokens
    if not isinstance(tokens, Tensor) or tokens.dim() != 3:
        shape = tuple(getattr(tokens, 'shape', ())) or type(tokens).__name__
        raise ValueError(
            f'A layer of {type(backbone).__name__} gives {shape}, which is no '
            'map (B, C, H, W) and no tokens (B, L, C): name another layer, '
            'or a backbone whose features are not pooled.')
    layout = find_layout(backbone, tokens.shape[1], image_size)
    patches = layout.split(tokens)[0]
    return patches.transpose(1, 2).unflatten(2, layout.grid)


def find_layout(backbone: nn.Module, length: int,
                image_size: Sequence[int]) -> TokenLayout:
    """Find out how so many tokens stand for an image.

    Args:
        backbone (nn.Module): The backbone.
        length (int): Number of tokens.
        image_size (Sequence[int]): Height and width of the image.

    Returns:
        TokenLayout: The layout, of an image and not of a clip.

    Raises:
        ValueError: If no layout has so many tokens.
    """
    size = tuple(image_size)
    if hasattr(backbone, 'token_layout'):
        known = [
            backbone.token_layout(size, i)
            for i in range(len(backbone.block_names))
        ]
        known += [TokenLayout(layout.grid) for layout in known]
    else:
        extra = getattr(backbone, 'num_extra_tokens', 0)
        known = [
            TokenLayout(guess_grid(length - n, size), n, 0 if n else None)
            for n in dict.fromkeys((extra, 0))
        ]
    for layout in known:
        if layout.num_tokens == length and layout.frames is None:
            return layout
    raise ValueError(
        f'{length} tokens of {type(backbone).__name__} fit no grid for '
        f'images of {size}; name another layer.')


def guess_grid(count: int, image_size: Tuple[int, int]) -> Tuple[int, int]:
    """Guess rows and columns from the form of the image.

    Args:
        count (int): Number of patches.
        image_size (Tuple[int, int]): Height and width of the image.

    Returns:
        Tuple[int, int]: The grid whose form is the nearest.
    """
    ratio = math.log(image_size[0] / image_size[1])
    rows = [n for n in range(1, max(count, 1) + 1) if count % n == 0]
    best = min(
        rows, key=lambda n: abs(math.log(n * n / max(count, 1)) - ratio))
    return best, max(count, 1) // best
