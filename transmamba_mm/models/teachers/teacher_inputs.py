"""What goes into a teacher, and what comes out: sizes, precision, tensors."""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.token_layout import TokenLayout

DTYPES: Dict[str, torch.dtype] = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16
}
#: What of a model's output is taken, in this order.
_OUTPUTS = ('logits', 'image_embeds', 'text_embeds', 'pooler_output',
            'last_hidden_state')


def as_dtype(name: Union[str, torch.dtype, None],
             key: str = 'teacher.dtype') -> Optional[torch.dtype]:
    """Read the ``dtype`` of a teacher's config.

    Args:
        name (str | torch.dtype, optional): Such as 'bfloat16'.
        key (str): What is read, for the message. Defaults to
            'teacher.dtype'.

    Returns:
        torch.dtype, optional: The precision, None for None.

    Raises:
        ValueError: If it is none of ``DTYPES``.
    """
    if name is None or name in DTYPES.values():
        return name
    if name not in DTYPES:
        raise ValueError(f'{key}={name!r} is unknown; use one of '
                         f'{tuple(DTYPES)}, or None.')
    return DTYPES[name]


def as_size(size: Union[int, Sequence[int], None]) \
        -> Optional[Tuple[int, int]]:
    """Read the ``input_size`` of a teacher's config.

    Args:
        size (int | Sequence[int], optional): One number, or height and
            width.

    Returns:
        Tuple[int, int], optional: Height and width, None for None.

    Raises:
        ValueError: If these are no two positive numbers.
    """
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f'teacher.input_size={size!r}, but it must be one '
                         'positive integer, or height and width.')
    return pair


def resize_images(images: Tensor, size: Tuple[int, int]) -> Tensor:
    """Resize images or clips (bicubic, antialiased).

    Args:
        images (Tensor): Shape (B, C, H, W) or (B, C, T, H, W).
        size (Tuple[int, int]): Height and width wanted.

    Returns:
        Tensor: Of the same number of axes.
    """
    flat = images
    if images.dim() == 5:
        flat = images.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(
        flat, size=size, mode='bicubic', antialias=True, align_corners=False)
    if images.dim() == 5:
        flat = flat.unflatten(0, (images.shape[0], -1)).transpose(1, 2)
    return flat


def output_tensor(output: Any) -> Any:
    """Take the one tensor out of what a module returns.

    Args:
        output (Any): A tensor, a tuple that begins with it, or a dict of one
            of the Transformers library's outputs.

    Returns:
        Any: The tensor; what is none of these as it is.
    """
    if isinstance(output, dict):
        for key in _OUTPUTS:
            if output.get(key) is not None:
                return output[key]
    if isinstance(output, (tuple, list)) and output:
        return output_tensor(output[0])
    return output


def vit_layout(image_size: Tuple[int, int], patch: Tuple[int, int],
               num_extra_tokens: int) -> TokenLayout:
    """Lay the tokens of a ViT out: extra tokens, then patches in rows.

    Args:
        image_size (Tuple[int, int]): Height and width in pixels.
        patch (Tuple[int, int]): Height and width of a patch.
        num_extra_tokens (int): Class token and others before the patches.

    Returns:
        TokenLayout: The layout.

    Raises:
        ValueError: If a patch is larger than the image.
    """
    grid = tuple(s // p for s, p in zip(image_size, patch))
    if min(grid) == 0:
        raise ValueError(
            f'Images of {tuple(image_size)} hold no patch of {tuple(patch)}, '
            'the patch size of the teacher; set `input_size` of the teacher '
            'to a larger size, such as the one it was trained with.')
    return TokenLayout(grid, num_extra_tokens, 0 if num_extra_tokens else None)
