from typing import List

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS


@MODELS.register_module()
class AugmentingDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's data preprocessor, with crop and flip on the device.

    For batches of small images that come as they are, such as those of
    ``transmamba_mm.CachedImageFolder``. Each image is shifted and flipped by
    itself, in training only. The labels of a training batch may come in one
    data sample, as that dataset gives them.

    Args:
        *args: As ``ClsDataPreprocessor``.
        crop_padding (int): Pixels of black border from which an image of the
            old size is cut. Defaults to 0.
        flip_prob (float): Probability of a horizontal flip. Defaults to 0.
        **kwargs: As ``ClsDataPreprocessor``.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(self,
                 *args,
                 crop_padding: int = 0,
                 flip_prob: float = 0.,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if crop_padding < 0:
            raise ValueError(f'data_preprocessor.crop_padding={crop_padding},'
                             ' but it must not be negative.')
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'data_preprocessor.flip_prob={flip_prob}, but '
                             'it must lie in [0, 1].')
        self.crop_padding = crop_padding
        self.flip_prob = flip_prob

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment and normalise a batch.

        Args:
            data (dict): ``inputs`` (B, C, H, W) and ``data_samples``.
            training (bool): Whether images are augmented. Defaults to False.

        Returns:
            dict: As ``ClsDataPreprocessor``.
        """
        if training:
            inputs = self.cast_data(data['inputs'])
            if self.crop_padding:
                inputs = random_crop(inputs, self.crop_padding)
            if self.flip_prob:
                inputs = random_flip(inputs, self.flip_prob)
            data = dict(data, inputs=inputs)
            if self.to_onehot:
                data['data_samples'] = one_sample_an_image(
                    data['data_samples'])
        return super().forward(data, training)


def one_sample_an_image(samples: List[DataSample]) -> List[DataSample]:
    """Take the labels of a batch apart, if they come in one data sample.

    Args:
        samples (List[DataSample]): One for the batch, or one an image.

    Returns:
        List[DataSample]: One an image.
    """
    if len(samples) > 1:
        return samples
    return [DataSample().set_gt_label(x) for x in samples[0].gt_label]


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Shift each image at random over a black border.

    Args:
        images (Tensor): Shape (B, C, H, W).
        padding (int): Largest shift in pixels.

    Returns:
        Tensor: Of the same shape.
    """
    b, _, h, w = images.shape
    device = images.device
    shift = torch.randint(2 * padding + 1, (2, b, 1), device=device)
    rows = shift[0] + torch.arange(h, device=device)  # (B, H)
    columns = shift[1] + torch.arange(w, device=device)  # (B, W)
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    image = torch.arange(b, device=device)[:, None, None]
    cut = padded[image, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def random_flip(images: Tensor, prob: float) -> Tensor:
    """Flip each image from left to right, or not.

    Args:
        images (Tensor): Shape (B, C, H, W).
        prob (float): Probability of a flip.

    Returns:
        Tensor: Of the same shape.
    """
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < prob
    return torch.where(chosen, images.flip(-1), images)
