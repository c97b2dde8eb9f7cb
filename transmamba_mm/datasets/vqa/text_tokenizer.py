import functools
import os.path as osp
from typing import Any


@functools.lru_cache(maxsize=8)
def load_text_tokenizer(folder: str, max_length: int = 0) -> Any:
    """Load a fast tokenizer of Transformers from a local folder.

    Without a padding token it pads with its unknown token, as LLaVA does, or
    else with its end mark. The same folder gives the same object again.

    Args:
        folder (str): Folder with the tokenizer's files.
        max_length (int): Tokens that the model takes; 0 keeps what the
            folder says. Defaults to 0.

    Returns:
        PreTrainedTokenizerFast: The tokenizer.

    Raises:
        FileNotFoundError: There is no such folder.
        ImportError: Transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ImportError(
            'language models need the package `transformers`: pip install -r '
            'requirements/multimodal.txt') from error
    if not osp.isdir(osp.expanduser(folder)):
        raise FileNotFoundError(
            f'the tokenizer folder {folder!r} does not exist; check '
            '`tokenizer` in the config. A folder of your own dataset\'s words '
            'is made by tools/dataset_converters/word_tokenizer.py')
    tokenizer = AutoTokenizer.from_pretrained(
        osp.expanduser(folder), local_files_only=True, use_fast=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if max_length:
        tokenizer.model_max_length = max_length
    return tokenizer
