"""Put visual tokens where a prompt has its image token."""
from dataclasses import dataclass
from typing import List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    """

    embeddings: Tensor
    mask: Tensor
    labels: Tensor


def place_images(embeddings: Sequence[Tensor],
                 ids: Sequence[Tensor],
                 labels: Sequence[Tensor],
                 visual: Tensor,
                 padding_side: str = 'right') -> ImageTextBatch:
    """Replace image tokens by visual tokens, and pad.

    Source: LLaVA-1.5; visual tokens are not learnt.

    Args:
        embeddings (Sequence[Tensor]): Per sample its embedded tokens (L, C);
            those of image tokens are not looked at.
        ids (Sequence[Tensor]): Per sample its tokens (L,).
        labels (Sequence[Tensor]): Per sample its labels (L,).
        visual (Tensor): Visual tokens (B, N, C).
        padding_side (str): 'left' for generation, or 'right'. Defaults to
            'right'.

    Returns:
        ImageTextBatch: The batch.
    """
    texts, targets = [], []
    for x, tokens, label, picture in zip(embeddings, ids, labels, visual):
        places = (tokens == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist()
        for i in reversed(places):
            x = torch.cat([x[:i], picture.to(x.dtype), x[i + 1:]])
            ignored = label.new_full((len(picture), ), IGNORE_INDEX)
            label = torch.cat([label[:i], ignored, label[i + 1:]])
        texts.append(x)
        targets.append(label)
    masks = [x.new_ones(len(x), dtype=torch.bool) for x in texts]
    return ImageTextBatch(*(pad_sequence(rows, True, value, padding_side)
                            for rows, value in ((texts, 0.), (masks, False),
                                                (targets, IGNORE_INDEX))))


def check_images(ids: Sequence[Tensor],
                 names: Sequence[str],
                 allow_text_only: bool = False) -> None:
    """Refuse prompts that do not have one image token.

    Args:
        ids (Sequence[Tensor]): Per sample its tokens (L,).
        names (Sequence[str]): What the samples are called in messages.
        allow_text_only (bool): Whether a prompt may have none. Defaults to
            False.

    Raises:
        ValueError: If there is such a prompt.
    """
    for tokens, name in zip(ids, names):
        count = int((tokens == IMAGE_TOKEN_INDEX).sum())
        if count == 1 or (count == 0 and allow_text_only):
            continue
        raise ValueError(
            f"The prompt of {name} has {count} image tokens ('<image>', "
            f'{IMAGE_TOKEN_INDEX} in input_ids), and there is one image: give '
            'one, such as by the conversation template' +
            ('' if count else ', or set model.allow_text_only=True if it is '
             'meant to have none') + '.')


def prompt_length(labels: Optional[Tensor], length: int) -> int:
    """Count the tokens before the first that is learnt.

    Args:
        labels (Tensor, optional): Labels (L,).
        length (int): L.

    Returns:
        int: Number of tokens, all if none is learnt.
    """
    if labels is None:
        return length
    learnt = (labels != IGNORE_INDEX).nonzero().flatten()
    return int(learnt[0]) if len(learnt) else length


def first_prompts(ids: List[Tensor], labels: List[Tensor]) -> List[Tensor]:
    """Cut texts before what is learnt first.

    Args:
        ids (List[Tensor]): Per sample its tokens (L,).
        labels (List[Tensor]): Per sample its labels (L,).

    Returns:
        List[Tensor]: Per sample the tokens up to its first answer.
    """
    return [
        tokens[:prompt_length(label, len(tokens))]
        for tokens, label in zip(ids, labels)
    ]
