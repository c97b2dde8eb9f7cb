"""Put visual tokens where a prompt has its image token."""
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

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


def read_texts(inputs: Dict[str, Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
    """Take the padding off the texts of a batch.

    Args:
        inputs (Dict[str, Tensor]): ``input_ids`` and ``attention_mask``
            (B, L), and perhaps ``labels``.

    Returns:
        Tuple[List[Tensor], List[Tensor]]: Per sample its tokens (L,), and
        its labels (L,), -100 if there are none.
    """
    ids, labels = inputs['input_ids'], inputs.get('labels', None)
    if labels is None:
        labels = torch.full_like(ids, IGNORE_INDEX)
    masks = inputs['attention_mask'].bool()
    return ([row[mask] for row, mask in zip(ids, masks)],
            [row[mask] for row, mask in zip(labels, masks)])


def check_images(ids: Sequence[Tensor],
                 data_samples: Optional[list] = None) -> bool:
    """Refuse prompts that do not have one image token.

    Args:
        ids (Sequence[Tensor]): Per sample its tokens (L,).
        data_samples (list, optional): Of these, ``has_image=False`` marks
            the ones that must have none. Defaults to None.

    Returns:
        bool: Whether there is one of the latter.

    Raises:
        ValueError: If a prompt has another number.
    """
    wanted = [
        bool(sample.get('has_image', True)) for sample in data_samples or ()
    ] or [True] * len(ids)
    counts = torch.stack([(t == IMAGE_TOKEN_INDEX).sum() for t in ids])
    for i, count in enumerate(counts.tolist()):
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


def first_prompts(ids: List[Tensor], labels: List[Tensor]) -> List[Tensor]:
    """Cut texts before what is learnt first.

    Args:
        ids (List[Tensor]): Per sample its tokens (L,).
        labels (List[Tensor]): Per sample its labels (L,).

    Returns:
        List[Tensor]: Per sample the tokens up to its first answer.
    """
    prompts = []
    for tokens, label in zip(ids, labels):
        learnt = (label != IGNORE_INDEX).nonzero().flatten()
        prompts.append(tokens[:learnt[0]] if len(learnt) else tokens)
    return prompts
