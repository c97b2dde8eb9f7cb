from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.text_batch import join_samples
from .clip_data_preprocessor import ClipDataPreprocessor


@MODELS.register_module()
class VideoTextDataPreprocessor(ClipDataPreprocessor):
    """Data preprocessor of clips with captions, whose colours are RGB.

    The samples of a training batch become one, with the tensors of all texts
    on the device.

    Args:
        *args: As :class:`ClipDataPreprocessor`.
        crop_size (int, optional): In training, cut a random window out of
            each clip, on the device, and resize it to this height and width:
            for clips that come as whole batches, such as those of
            ``transmamba_mm.CachedVideoTextDataset``. Defaults to None.
        crop_scale (Tuple[float, float]): Parts of the frame's area that such
            a window has. Defaults to (0.5, 1).
        **kwargs: As :class:`ClipDataPreprocessor`.

    Raises:
        ValueError: If ``to_rgb`` is set, clips are to be mixed, whose
            captions cannot be, or a window is out of range.
    """

    #: Whether the inputs are RGB already, which teachers want to know.
    takes_rgb = True

    def __init__(self,
                 *args,
                 crop_size: Optional[int] = None,
                 crop_scale: Tuple[float, float] = (0.5, 1.),
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.to_rgb:
            raise ValueError(
                'data_preprocessor.to_rgb=True would turn the clips, which '
                'are RGB as VideoTextDataset reads them, into BGR; leave it '
                'out.')
        if self.batch_augments is not None:
            raise ValueError('model.train_cfg.augments mixes clips, but not '
                             'their captions; leave it out.')
        if crop_size is not None and crop_size < 1:
            raise ValueError(f'data_preprocessor.crop_size={crop_size}, but '
                             'it must be positive, or None.')
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(
                f'data_preprocessor.crop_scale={crop_scale}, but it must be '
                'two rising parts in (0, 1].')
        self.crop_size = crop_size
        self.crop_scale = tuple(crop_scale)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Crop and normalise a batch, and join its samples.

        Args:
            data (dict): ``inputs``, clips (C, T, H, W) or a batch of them,
                and ``data_samples``.
            training (bool): Whether it is for training. Defaults to False.

        Returns:
            dict: ``inputs`` (B, C, T, H, W) and ``data_samples``: for
            training the one of
            :func:`~transmamba_mm.utils.text_batch.join_samples`,
            unless a cache of a teacher's features needs each.
        """
        samples = data.get('data_samples')
        if not training or not samples:
            return super().forward(data, training)
        inputs = super().forward(dict(inputs=data['inputs']), True)['inputs']
        if self.crop_size is not None:
            inputs = random_windows(inputs, self.crop_size, self.crop_scale)
        if 'augmentation_key' not in samples[0]:
            samples = join_samples(samples, inputs.device)
        return dict(inputs=inputs, data_samples=samples)


def random_windows(
    clips: Tensor,
    size: int,
    scale: Tuple[float, float],
    ratio: Tuple[float, float] = (3 / 4, 4 / 3)
) -> Tensor:
    """Cut a random window out of each clip, the same for all its frames.

    Args:
        clips (Tensor): Floats (B, C, T, H, W).
        size (int): Height and width of the result.
        scale (Tuple[float, float]): Parts of the frame's area.
        ratio (Tuple[float, float]): Width to height, relative to the
            frame's. Defaults to (3 / 4, 4 / 3).

    Returns:
        Tensor: Shape (B, C, T, size, size), resized bilinearly.
    """
    batch, channels, frames = clips.shape[:3]
    device = clips.device
    area = torch.empty(batch, device=device).uniform_(*scale)
    low, high = (torch.tensor(r).log().item() for r in ratio)
    shape = torch.empty(batch, device=device).uniform_(low, high).exp()
    # width and height of the windows, in those of the frame
    sides = torch.stack([area * shape, area / shape], 1).sqrt().clamp(max=1.)
    places = (2 * torch.rand_like(sides) - 1) * (1 - sides)
    theta = torch.cat([torch.diag_embed(sides), places[..., None]], dim=2)
    images = clips.flatten(1, 2)
    grid = F.affine_grid(
        theta, (*images.shape[:2], size, size), align_corners=False)
    out = F.grid_sample(
        images, grid, padding_mode='border', align_corners=False)
    return out.unflatten(1, (channels, frames))
