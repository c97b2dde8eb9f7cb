from typing import List, Optional, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from transmamba_mm.datasets.vqa.masked_tokens import IGNORE_INDEX
from transmamba_mm.registry import MODELS

SIDES = ('auto', 'left', 'right')


@MODELS.register_module()
class LlavaDataPreprocessor(BaseDataPreprocessor):
    """Normalise and stack images, and pad the texts of a batch.

    Args:
        mean (Sequence[float], optional): Mean of the channels, in the order
            after ``to_rgb``. Defaults to None, without normalisation.
        std (Sequence[float], optional): Their deviation. Defaults to None.
        to_rgb (bool): Turn BGR, which ``LoadImage`` gives, into RGB. Defaults
            to False.
        pad_token_id (int): Token that fills up the texts. The attention mask
            tells it apart, so it may be any. Defaults to 0.
        padding_side (str): 'left', 'right' or 'auto': on the right of texts
            with labels, on the left of questions to be answered, which must
            end together. Defaults to 'auto'.
        pad_to_multiple_of (int): The padded length is divisible by it.
            Defaults to 1.
        non_blocking (bool): Whether copies to the device overlap. Defaults to
            False.

    Raises:
        ValueError: An argument is not allowed; or in a batch, image sizes
            differ, or only some samples have labels.
        KeyError: A sample has no ``input_ids``.
    """

    def __init__(self,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None,
                 to_rgb: bool = False,
                 pad_token_id: int = 0,
                 padding_side: str = 'auto',
                 pad_to_multiple_of: int = 1,
                 non_blocking: bool = False) -> None:
        super().__init__(non_blocking=non_blocking)
        if padding_side not in SIDES:
            raise ValueError(f'data_preprocessor.padding_side must be one of '
                             f'{SIDES}, got {padding_side!r}')
        if (mean is None) != (std is None):
            raise ValueError('data_preprocessor needs `mean` and `std`, or '
                             f'neither; got mean={mean!r}, std={std!r}')
        if pad_to_multiple_of < 1:
            raise ValueError('data_preprocessor.pad_to_multiple_of must be at '
                             f'least 1, got {pad_to_multiple_of!r}')
        self.to_rgb = to_rgb
        self.pad_token_id = pad_token_id
        self.padding_side = padding_side
        self.pad_to_multiple_of = pad_to_multiple_of
        self.normalise = mean is not None
        if self.normalise:
            for name, values in dict(mean=mean, std=std).items():
                self.register_buffer(name,
                                     torch.tensor(values).view(-1, 1, 1),
                                     False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data (dict): ``inputs``, uint8 (3, H, W) each or (B, 3, H, W); and
                ``data_samples`` with ``input_ids``, arrays or tensors (T,),
                and with ``labels`` or without.
            training (bool): Not used. Defaults to False.

        Returns:
            dict: ``data_samples`` as they were, on the CPU; and ``inputs``, a
            dict of

            - ``images``: float32 (B, 3, H, W);
            - ``input_ids``: int64 (B, T);
            - ``attention_mask``: bool (B, T), False at padding;
            - ``labels``: int64 (B, T), -100 where nothing is learnt; None
              without labels.
        """
        samples = data['data_samples']
        inputs = self.pad_texts(samples)
        images = self._stack(data['inputs'])
        inputs = self.cast_data(dict(images=images, **inputs))
        inputs['images'] = self._normalise(inputs['images'])
        return dict(inputs=inputs, data_samples=samples)

    def pad_texts(self, samples: Sequence) -> dict:
        """Pad the texts of a batch.

        Args:
            samples (Sequence[DataSample]): With ``input_ids`` (T,) each.

        Returns:
            dict: ``input_ids``, ``attention_mask`` and ``labels``.
        """
        for sample in samples:
            if 'input_ids' not in sample:
                raise KeyError(
                    'a data sample has no `input_ids`; put '
                    'transmamba_mm.TokenizeConversation before '
                    'transmamba_mm.PackConversation in the `pipeline`')
        with_labels = [sample for sample in samples if 'labels' in sample]
        if with_labels and len(with_labels) < len(samples):
            raise ValueError(
                f'{len(with_labels)} of {len(samples)} samples of a batch '
                'have labels; use the same `for_answer` for all datasets')
        ids = [torch.as_tensor(sample.input_ids) for sample in samples]
        side = self.padding_side
        if side == 'auto':
            side = 'right' if with_labels else 'left'
        labels = [torch.as_tensor(sample.labels) for sample in with_labels]
        ones = [torch.ones_like(t, dtype=torch.bool) for t in ids]
        return dict(
            input_ids=self._pad(ids, self.pad_token_id, side),
            attention_mask=self._pad(ones, False, side),
            labels=self._pad(labels, IGNORE_INDEX, side) if labels else None)

    def _pad(self, rows: List[Tensor], value: int, side: str) -> Tensor:
        length = max(map(len, rows))
        length += -length % self.pad_to_multiple_of
        out = rows[0].new_full((len(rows), length), value)
        for target, row in zip(out, rows):
            if side == 'left':
                target[length - len(row):] = row
            else:
                target[:len(row)] = row
        return out

    @staticmethod
    def _stack(images: Sequence[Tensor]) -> Tensor:
        if isinstance(images, Tensor):
            return images
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise ValueError(
                f'the images of a batch have different sizes: {sizes}; put '
                'Resize or a crop to one size into the `pipeline`')
        return torch.stack(list(images))

    def _normalise(self, images: Tensor) -> Tensor:
        images = (images.flip(1) if self.to_rgb else images).float()
        return (images - self.mean) / self.std if self.normalise else images
