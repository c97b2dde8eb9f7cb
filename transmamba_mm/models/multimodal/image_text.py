"""Put visual tokens where a prompt has its image token."""
from dataclasses import dataclass
from typing import Dict, List, Optional

import torch
from torch import Tensor

#: Stands for the visual tokens of the image, as in LLaVA.
IMAGE_TOKEN_INDEX = -200
#: Label of a token that is not learnt.
IGNORE_INDEX = -100


@dataclass
class ImageTextBatch:
    """Embedded texts with their images.

    Attributes:
        embeddings (Tensor): Shape (B, L, C).
        mask (Tensor): Bool, True for real tokens (B, L).
        labels (Tensor): -100 for all that is not learnt (B, L).
        is_visual (Tensor): Bool, True for visual tokens (B, L).
    """

    embeddings: Tensor
    mask: Tensor
    labels: Tensor
    is_visual: Tensor


@dataclass
class Texts:
    """Texts of a batch, each from the first column on.

    Attributes:
        ids (Tensor): Tokens, those of the padding mean nothing (B, L).
        labels (Tensor): -100 for all that is not learnt, and for padding
            (B, L).
        lengths (Tensor): Tokens of each text (B,).
        prompts (Tensor): Tokens of each up to its first answer (B,).
        counts (List[List[int]]): Per sample image tokens, length and prompt
            length, on the host: the only ones that are waited for.
    """

    ids: Tensor
    labels: Tensor
    lengths: Tensor
    prompts: Tensor
    counts: List[List[int]]

    def cut_answers(self) -> 'Texts':
        """Cut the texts before what is learnt first.

        Returns:
            Texts: The prompts.
        """
        counts = [[images, size, size] for images, _, size in self.counts]
        width = max(size for _, _, size in counts)
        return Texts(self.ids[:, :width], self.labels[:, :width], self.prompts,
                     self.prompts, counts)


def read_texts(inputs: Dict[str, Tensor]) -> Texts:
    """Take the padding off the left of the texts of a batch.

    Args:
        inputs (Dict[str, Tensor]): ``input_ids`` and ``attention_mask``
            (B, L), and perhaps ``labels``.

    Returns:
        Texts: The texts.
    """
    ids, labels = inputs['input_ids'], inputs.get('labels', None)
    if labels is None:
        labels = torch.full_like(ids, IGNORE_INDEX)
    mask = inputs['attention_mask'].bool()
    order = (~mask).long().argsort(dim=1, stable=True)
    ids, labels, mask = (x.gather(1, order) for x in (ids, labels, mask))
    labels = labels.masked_fill(~mask, IGNORE_INDEX)
    lengths, learnt = mask.sum(1), labels != IGNORE_INDEX
    prompts = torch.where(learnt.any(1), learnt.long().argmax(1), lengths)
    images = ((ids == IMAGE_TOKEN_INDEX) & mask).sum(1)
    counts = torch.stack([images, lengths, prompts], dim=1).tolist()
    return Texts(ids, labels, lengths, prompts, counts)


def place_images(texts: Texts,
                 embeddings: Tensor,
                 visual: Tensor,
                 padding_side: str = 'right') -> ImageTextBatch:
    """Replace image tokens by visual tokens, and pad.

    Source: LLaVA-1.5; visual tokens are not learnt.

    Args:
        texts (Texts): Texts with at most one image token each.
        embeddings (Tensor): The embedded tokens (B, L, C); those of image
            tokens are not looked at.
        visual (Tensor): Visual tokens (B, N, C).
        padding_side (str): 'left' for generation, or 'right'. Defaults to
            'right'.

    Returns:
        ImageTextBatch: The batch.
    """
    more = visual.shape[1] - 1
    width = max(size + images * more for images, size, _ in texts.counts)
    is_image = texts.ids == IMAGE_TOKEN_INDEX
    is_image &= _positions(is_image) < texts.lengths[:, None]
    has_image = is_image.any(1, keepdim=True)
    place = is_image.long().argmax(1, keepdim=True)
    total = texts.lengths[:, None] + has_image * more
    step = torch.arange(width, device=place.device)[None]
    if padding_side == 'left':
        step = step - (width - total)
    mask = (step >= 0) & (step < total)
    is_visual = mask & has_image & (step >= place) & (step <= place + more)
    after = has_image & (step > place + more)
    token = (step - after * more).clamp(0, texts.ids.shape[1] - 1)
    source = torch.where(is_visual, texts.ids.shape[1] + step - place, token)
    rows = torch.cat([embeddings, visual.to(embeddings.dtype)], dim=1)
    rows = rows.gather(1, source[..., None].expand(-1, -1, rows.shape[-1]))
    labels = texts.labels.gather(1, token)
    return ImageTextBatch(rows * mask[..., None].to(rows.dtype), mask,
                          labels.masked_fill(is_visual | ~mask, IGNORE_INDEX),
                          is_visual)


def _positions(ids: Tensor) -> Tensor:
    """Number the columns of (B, L)."""
    return torch.arange(ids.shape[1], device=ids.device)[None]


def prompt_texts(texts: Texts) -> Optional[Tensor]:
    """Find the tokens of the prompts that are text.

    Args:
        texts (Texts): The texts.

    Returns:
        Tensor, optional: Columns of these tokens, as many for each sample,
        -1 behind the last (B, L'); None if there is no such token.
    """
    width = max(size - images for images, _, size in texts.counts)
    if width < 1:
        return None
    wanted = texts.ids != IMAGE_TOKEN_INDEX
    wanted &= _positions(texts.ids) < texts.prompts[:, None]
    columns = (~wanted).long().argsort(dim=1, stable=True)
    columns = columns.masked_fill(~wanted.gather(1, columns), -1)
    return columns[:, :width]


def check_images(texts: Texts, data_samples: Optional[list] = None) -> bool:
    """Refuse prompts that do not have one image token.

    Args:
        texts (Texts): The texts.
        data_samples (list, optional): Of these, ``has_image=False`` marks
            the ones that must have none. Defaults to None.

    Returns:
        bool: Whether there is one of the latter.

    Raises:
        ValueError: If a prompt has another number.
    """
    wanted = [
        bool(sample.get('has_image', True)) for sample in data_samples or ()
    ] or [True] * len(texts.counts)
    for i, (count, _, _) in enumerate(texts.counts):
        if count != wanted[i]:
            raise ValueError(
                f'The prompt of {_name(data_samples, i)} has {count} image '
                f"tokens ('<image>', {IMAGE_TOKEN_INDEX} in input_ids) and "
                f'{int(wanted[i])} image; give as many, such as by '
                'TokenizeConversation in the pipeline.')
    return not all(wanted)


def check_length(mask: Tensor, max_length: Optional[int],
                 data_samples: Optional[list]) -> None:
    """Refuse texts that are too long.

    Args:
        mask (Tensor): True for real tokens (B, L).
        max_length (int, optional): Tokens that are allowed, None for any.
        data_samples (list, optional): Named in the message.

    Raises:
        ValueError: If there is one.
    """
    if max_length and mask.shape[1] > max_length:
        longest = int(mask.sum(1).argmax())
        raise ValueError(
            f'The text of {_name(data_samples, longest)} has {mask.shape[1]} '
            f'tokens with its image, and model.max_length={max_length}: '
            'lower max_length of TokenizeConversation in the pipeline, or '
            'raise model.max_length.')


def _name(data_samples: Optional[list], i: int) -> str:
    path = data_samples and data_samples[i].get('img_path', None)
    return f"'{path}'" if path else f'sample {i} of the batch'
