from typing import Dict, List

import torch
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def stack_texts(data_samples: List[DataSample],
                device: torch.device) -> Dict[str, Tensor]:
    """Put the texts of a batch together.

    Args:
        data_samples (List[DataSample]): Samples with ``text``, a dict with
            ``input_ids`` (L,) and, if wanted, ``attention_mask`` (L,).
        device (torch.device): Where the batch shall be.

    Returns:
        Dict[str, Tensor]: ``input_ids`` and ``attention_mask`` (B, L).

    Raises:
        KeyError: If a sample has no text.
        ValueError: If a text is empty.
    """
    ids, masks = [], []
    for sample in data_samples or ():
        text = sample.get('text', None)
        if text is None or 'input_ids' not in text:
            raise KeyError(
                f"The sample of video '{sample.get('video_id', None)}' has no "
                '`text` with `input_ids`: the pipeline needs a tokenising '
                'transform, and the packing one must keep `text`.')
        ids.append(torch.as_tensor(text['input_ids']))
        mask = text.get('attention_mask', torch.ones_like(ids[-1]))
        masks.append(torch.as_tensor(mask))
        if not masks[-1].any():
            raise ValueError(
                f"The caption of video '{sample.get('video_id', None)}' has "
                'no token.')
    if not ids:
        raise ValueError('A batch without data samples has no texts.')
    return dict(
        input_ids=pad_sequence(ids, batch_first=True).to(device),
        attention_mask=pad_sequence(masks, batch_first=True).to(device))
