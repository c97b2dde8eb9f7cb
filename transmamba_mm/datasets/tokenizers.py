"""Tokenizers: text to token ids, without downloads."""
import os
import re
import zlib
from typing import Any, List

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]")


class WordTokenizer:
    """Words to ids by a hash; needs no vocabulary and no files.

    Ids: 0 pads, ``vocab_size - 2`` starts and ``vocab_size - 1`` ends a text
    (the highest id, where CLIP's text towers read). Different words may
    share an id, the rarer the larger ``vocab_size`` is. Our choice, for small
    tasks and tests.

    Args:
        vocab_size (int): Number of ids. Defaults to 4096.

    Raises:
        ValueError: ``vocab_size`` is below 8.
    """

    pad_id = 0

    def __init__(self, vocab_size: int = 4096) -> None:
        if vocab_size < 8:
            raise ValueError(
                'TokenizeText: vocab_size of the tokenizer must be at least '
                f'8, got {vocab_size}')
        self.vocab_size = vocab_size

    def encode(self, text: str) -> List[int]:
        """Turn a text into ids, with its start and end.

        Args:
            text (str): The text.

        Returns:
            List[int]: Token ids.
        """
        words = _WORD.findall(text.lower())
        ids = [
            1 + zlib.crc32(word.encode()) % (self.vocab_size - 3)
            for word in words
        ]
        return [self.vocab_size - 2, *ids, self.vocab_size - 1]


class OpenClipTokenizer:
    """The byte-pair tokenizer of CLIP that open_clip brings along."""

    pad_id = 0

    def __init__(self) -> None:
        try:
            from open_clip import SimpleTokenizer
        except ImportError as error:
            raise _not_installed('open_clip_torch') from error
        self.tokenizer = SimpleTokenizer()
        self.vocab_size = self.tokenizer.vocab_size

    def encode(self, text: str) -> List[int]:
        """Turn a text into ids, with its start and end.

        Args:
            text (str): The text.

        Returns:
            List[int]: Token ids.
        """
        tokenizer = self.tokenizer
        return [
            tokenizer.sot_token_id, *tokenizer.encode(text),
            tokenizer.eot_token_id
        ]


class HuggingFaceTokenizer:
    """A tokenizer of Hugging Face Transformers, from a local folder.

    Args:
        name (str): Folder with the tokenizer's files.
        allow_download (bool): Let ``name`` be that of a model on the hub.
            Defaults to False.

    Raises:
        FileNotFoundError: There is no such folder.
    """

    def __init__(self, name: str, allow_download: bool = False) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise _not_installed('transformers') from error
        if not allow_download and not os.path.isdir(name):
            raise FileNotFoundError(
                f'TokenizeText: the tokenizer folder {name!r} does not exist; '
                'check `name` of its `tokenizer`, or set '
                '`allow_download=True` there')
        self.tokenizer = AutoTokenizer.from_pretrained(
            name, local_files_only=not allow_download)
        self.vocab_size = len(self.tokenizer)
        self.pad_id = self.tokenizer.pad_token_id or 0

    def encode(self, text: str) -> List[int]:
        """Turn a text into ids, with its start and end.

        Args:
            text (str): The text.

        Returns:
            List[int]: Token ids.
        """
        # the warning about long texts is ours to give
        return self.tokenizer(text, verbose=False)['input_ids']


TOKENIZERS = dict(
    words=WordTokenizer,
    open_clip=OpenClipTokenizer,
    huggingface=HuggingFaceTokenizer)


def build_tokenizer(cfg: dict) -> Any:
    """Build a tokenizer.

    Args:
        cfg (dict): Its ``type``, 'words', 'open_clip' or 'huggingface', and
            its arguments.

    Returns:
        Any: A tokenizer with ``encode``, ``pad_id`` and ``vocab_size``.

    Raises:
        ValueError: The type is unknown.
    """
    cfg = dict(cfg)
    kind = cfg.pop('type', None)
    if kind not in TOKENIZERS:
        raise ValueError(
            f'TokenizeText: the type of `tokenizer` must be one of '
            f'{tuple(TOKENIZERS)}, got {kind!r}')
    return TOKENIZERS[kind](**cfg)


def _not_installed(package: str) -> ImportError:
    return ImportError(f'TokenizeText needs the package {package!r}: `pip '
                       'install -r requirements/multimodal.txt`')
