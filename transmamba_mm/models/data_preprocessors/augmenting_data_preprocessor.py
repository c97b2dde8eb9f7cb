from functools import partial
from typing import Optional

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor
from torchvision.transforms import v2

from transmamba_mm.registry import MODELS
from transmamba_mm.structures import LabelledBatch


@MODELS.register_module()
class AugmentingDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's data preprocessor, with augmentation on the device.

    For batches of small images that come as they are, such as those of
    ``transmamba_mm.CachedImageFolder``. Each image is shifted and flipped by
    itself, in training only. The labels of a training batch may come in one
    data sample, as that dataset gives them.

    Args:
        *args: As ``ClsDataPreprocessor``.
        crop_padding (int): Pixels of black border from which an image of the
            old size is cut. Defaults to 0.
        flip_prob (float): Probability of a horizontal flip. Defaults to 0.
        policy (str, optional): A policy of torchvision for colours and
            shapes, 'TrivialAugmentWide', 'RandAugment' or 'AutoAugment' (the
            one of CIFAR-10). Defaults to None.
        policy_groups (int): The policy draws once for each of so many groups
            of images in a batch. Defaults to 16.
        **kwargs: As ``ClsDataPreprocessor``.

    Raises:
        ValueError: If a value is out of range.
    """

    POLICIES = dict(
        TrivialAugmentWide=v2.TrivialAugmentWide,
        RandAugment=v2.RandAugment,
        AutoAugment=partial(v2.AutoAugment, v2.AutoAugmentPolicy.CIFAR10))

    def __init__(self,
                 *args,
                 crop_padding: int = 0,
                 flip_prob: float = 0.,
                 policy: Optional[str] = None,
                 policy_groups: int = 16,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if crop_padding < 0:
            raise ValueError(f'data_preprocessor.crop_padding={crop_padding},'
                             ' but it must not be negative.')
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'data_preprocessor.flip_prob={flip_prob}, but '
                             'it must lie in [0, 1].')
        if policy is not None and policy not in self.POLICIES:
            raise ValueError(
                f"data_preprocessor.policy='{policy}' is unknown; use one of "
                f'{sorted(self.POLICIES)}, or None.')
        if policy_groups < 1:
            raise ValueError(f'data_preprocessor.policy_groups={policy_groups}'
                             ', but it must be at least 1.')
        self.crop_padding = crop_padding
        self.flip_prob = flip_prob
        self.policy = policy and self.POLICIES[policy]()
        self.policy_groups = policy_groups

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment and normalise a batch.

        Args:
            data (dict): ``inputs``, bytes (B, C, H, W), and
                ``data_samples``.
            training (bool): Whether images are augmented. Defaults to False.

        Returns:
            dict: As ``ClsDataPreprocessor``.
        """
        if not training:
            return super().forward(data, training)
        samples = data['data_samples']
        images = self._augment(self.cast_data(data['inputs']))
        # the base class sees no labels: it would take them apart one by one
        images = super().forward(dict(inputs=images), training)['inputs']
        labels = torch.cat([s.gt_label for s in samples]).to(images.device)
        if not self.to_onehot:
            return dict(
                inputs=images,
                data_samples=[DataSample().set_gt_label(labels)])
        scores = F.one_hot(labels, self.num_classes).float()
        if self.batch_augments is not None:
            images, scores = self.batch_augments(images, scores)
        return dict(inputs=images, data_samples=LabelledBatch(labels, scores))

    def _augment(self, images: Tensor) -> Tensor:
        if self.crop_padding:
            images = random_crop(images, self.crop_padding)
        if self.flip_prob:
            images = random_flip(images, self.flip_prob)
        if self.policy is not None:
            groups = images.chunk(self.policy_groups)
            images = torch.cat([self.policy(group) for group in groups])
        return images


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
