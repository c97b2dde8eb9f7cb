import re
from collections import Counter
from typing import Any, Iterable

from .conversation import TEMPLATES

SPECIAL = ('<pad>', '<unk>', '<s>', '</s>')
# a word, a sign or a single blank, with the space before it; `tokenizers`
# reads the same pattern
_PATTERN = r" ?[A-Za-z0-9_']+| ?[^\sA-Za-z0-9_']|\s"


def build_word_tokenizer(texts: Iterable[str],
                         folder: str = '',
                         min_count: int = 1,
                         max_length: int = 2048) -> Any:
    """Build a tokenizer with one token a word of the given texts.

    It has the form of Transformers' fast tokenizers (``<s>`` is put before a
    text; a space belongs to the word after it, so that decoding gives the
    text back). For tests and small tasks with few words; an unknown word
    becomes ``<unk>``. The words of the conversation templates are always in.

    Args:
        texts (Iterable[str]): All texts, questions and answers.
        folder (str): Where it is saved; '' keeps it in memory. Defaults to
            ''.
        min_count (int): How often a word must occur. Defaults to 1.
        max_length (int): Tokens that the model takes. Defaults to 2048.

    Returns:
        PreTrainedTokenizerFast: The tokenizer.

    Raises:
        ImportError: Transformers is not installed.
        ValueError: ``texts`` holds no words.

    Examples:
        >>> tokenizer = build_word_tokenizer(['is it red?', 'yes', 'no'])
        >>> tokenizer.decode(tokenizer(' yes').input_ids)
        '<s> yes'
    """
    try:
        from tokenizers import (Regex, Tokenizer, decoders, models,
                                pre_tokenizers, processors)
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise ImportError(
            'tokenizers need the package `transformers`: pip install -r '
            'requirements/multimodal.txt') from error
    words = _vocabulary(texts, min_count)
    ids = {word: i for i, word in enumerate((*SPECIAL, *words))}
    backend = Tokenizer(models.WordLevel(ids, unk_token='<unk>'))
    backend.pre_tokenizer = pre_tokenizers.Split(
        Regex(_PATTERN), behavior='isolated')
    backend.post_processor = processors.TemplateProcessing(
        single='<s> $A', special_tokens=[('<s>', ids['<s>'])])
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token='<pad>',
        unk_token='<unk>',
        bos_token='<s>',
        eos_token='</s>',
        clean_up_tokenization_spaces=False,
        model_max_length=max_length)
    if folder:
        tokenizer.save_pretrained(folder)
    return tokenizer


def _vocabulary(texts: Iterable[str], min_count: int) -> list:
    """Words in order of their counts, each with and without a space."""
    counts = Counter()
    for text in texts:
        counts.update(word.strip() for word in re.findall(_PATTERN, text))
    counts.pop('', None)
    if not counts:
        raise ValueError('build_word_tokenizer: the texts hold no words; '
                         'check the dataset it is built from')
    words = sorted((word for word, n in counts.items() if n >= min_count),
                   key=lambda word: (-counts[word], word))
    for template in TEMPLATES.values():
        text = f'{template.system} {" ".join(template.roles)} :'
        words += [word.strip() for word in re.findall(_PATTERN, text)]
    words = [word for word in dict.fromkeys(words) if word]
    return ['\n', ' ', *(f'{gap}{w}' for w in words for gap in ('', ' '))]
