"""Texts of a batch, and which samples are alike."""
import hashlib
from typing import Dict, List, Optional, Tuple

import torch
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def join_samples(data_samples: List[DataSample],
                 device: torch.device) -> List[DataSample]:
    """Put the texts and groups of a training batch into one data sample.

    Args:
        data_samples (List[DataSample]): One sample a clip, or the joined one
            already.
        device (torch.device): Where the tensors shall be.

    Returns:
        List[DataSample]: One sample with ``text``, ``input_ids`` and
        ``attention_mask`` (B, L), and with ``groups`` (B, 2).

    Raises:
        KeyError: If a sample has no text or no ``video_id``.
        ValueError: If a text is empty.
    """
    joined = DataSample()
    joined.set_field(stack_texts(data_samples, device), 'text')
    joined.set_field(stack_groups(data_samples).to(device), 'groups')
    return [joined]


def is_joined(data_samples: List[DataSample]) -> bool:
    """Tell whether one sample stands for a whole batch.

    Args:
        data_samples (List[DataSample]): The samples of a batch.

    Returns:
        bool: True for the output of :func:`join_samples`.
    """
    return bool(data_samples) and 'groups' in data_samples[0]


def stack_texts(data_samples: List[DataSample],
                device: torch.device) -> Dict[str, Tensor]:
    """Put the texts of a batch together.

    Args:
        data_samples (List[DataSample]): Samples with ``text``, a dict with
            ``input_ids`` (L,) and, if wanted, ``attention_mask`` (L,); or the
            joined one.
        device (torch.device): Where the batch shall be.

    Returns:
        Dict[str, Tensor]: ``input_ids`` and ``attention_mask`` (B, L).

    Raises:
        KeyError: If a sample has no text.
        ValueError: If a text is empty.
    """
    if is_joined(data_samples):
        text = data_samples[0].get('text')
        return {name: tensor.to(device) for name, tensor in text.items()}
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


def stack_groups(data_samples: List[DataSample]) -> Tensor:
    """Number the videos and the captions, the same on every process.

    Args:
        data_samples (List[DataSample]): Samples with ``video_id`` and, if
            there is one, ``caption``; or the joined one.

    Returns:
        Tensor: Shape (B, 2).

    Raises:
        KeyError: If a sample has no ``video_id``.
    """
    if is_joined(data_samples):
        return data_samples[0].get('groups')
    rows = []
    for sample in data_samples:
        video = sample.get('video_id', None)
        if video is None:
            raise KeyError('A sample has no `video_id`, by which training '
                           'knows videos that are alike: the packing '
                           'transform of the pipeline must keep it.')
        rows.append(group_numbers(video, sample.get('caption', None)))
    return torch.tensor(rows)


def group_numbers(video: str, caption: Optional[str]) -> Tuple[int, int]:
    """Number a sample's video and its caption.

    Samples that share one of the numbers are alike (our choice).

    Args:
        video (str): Name of the video.
        caption (str, optional): The caption; without one, only the video
            counts.

    Returns:
        Tuple[int, int]: Numbers in [0, 2 ** 63).
    """
    if caption is None:
        return _number('video', video), _number('of', video)
    return _number('video', video), _number('caption', caption)


def _number(kind: str, value: str) -> int:
    digest = hashlib.sha1(f'{kind} {value}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1
