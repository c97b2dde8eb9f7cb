"""Which words the numbers of a language model stand for."""
import hashlib
import json
import os.path as osp
from typing import Any, Optional

import torch
from torch import Tensor

from transmamba_mm.utils.weight_files import open_weights


def vocabulary_mark(tokenizer: Any) -> Tensor:
    """Sum up which word has which number.

    Args:
        tokenizer (PreTrainedTokenizerFast): The tokenizer.

    Returns:
        Tensor: One int64, which differs for other vocabularies.
    """
    words = json.dumps(sorted(tokenizer.get_vocab().items()))
    digest = hashlib.sha256(words.encode()).digest()
    return torch.tensor(int.from_bytes(digest[:7], 'big'))


def stored_vocabulary(path: str) -> Optional[Tensor]:
    """Read the mark of the tokenizer that weights belong to.

    Args:
        path (str): Weights of a ``TransLlava``, or a folder as
            ``save_pretrained`` writes it, with its tokenizer.

    Returns:
        Tensor, optional: See :func:`vocabulary_mark`; None if neither tells.
    """
    if osp.isfile(osp.join(str(path), 'tokenizer.json')):
        from transmamba_mm.datasets.vqa import load_text_tokenizer
        return vocabulary_mark(load_text_tokenizer(str(path)))
    weights = open_weights(path)
    return weights['vocabulary'] if 'vocabulary' in weights else None
