"""Conversations to tokens, with the labels of what the model learns.

Glossary: a *chunk* is the text between two images. Each is tokenised by
itself, as in LLaVA. A token is learnt if it reaches into a learnt span of the
text. The spans are looked up by the tokenizer's own character offsets, so
that the mask cannot drift, whatever the tokenizer makes of spaces.
"""
from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

from .conversation import IMAGE_PLACEHOLDER, ConversationTemplate, Turn

IMAGE_TOKEN_INDEX = -200
IGNORE_INDEX = -100


@dataclass
class MaskedTokens:
    """Token ids and labels of a conversation.

    Attributes:
        input_ids (List[int]): Token ids; ``IMAGE_TOKEN_INDEX`` (-200) stands
            for the visual tokens of the image.
        labels (List[int]): The same ids where the model learns,
            ``IGNORE_INDEX`` (-100) elsewhere.
    """

    input_ids: List[int]
    labels: List[int]

    def truncate(self, length: int) -> 'MaskedTokens':
        """Keep the first tokens, as LLaVA does.

        Args:
            length (int): Number of tokens to keep.

        Returns:
            MaskedTokens: The first tokens.
        """
        return MaskedTokens(self.input_ids[:length], self.labels[:length])

    @property
    def num_learnt(self) -> int:
        """int: Number of tokens that are learnt."""
        return sum(label != IGNORE_INDEX for label in self.labels)


def tokenize_conversation(turns: Sequence[Turn],
                          template: ConversationTemplate,
                          tokenizer: Any) -> MaskedTokens:
    """Tokenise a conversation and mark what the model learns.

    Args:
        turns (Sequence[Tuple[str, str]]): From ``normalise_turns``.
        template (ConversationTemplate): How they become a text.
        tokenizer (PreTrainedTokenizerFast): A tokenizer of Transformers that
            gives character offsets.

    Returns:
        MaskedTokens: Ids and labels. Without an answer in ``turns``, nothing
        is learnt.

    Raises:
        ValueError: The tokenizer has no offsets or no end mark.
    """
    _check(tokenizer)
    rendered = template.render(turns, tokenizer.eos_token)
    ids: List[int] = []
    labels: List[int] = []
    start = 0
    for i, chunk in enumerate(rendered.text.split(IMAGE_PLACEHOLDER)):
        if i:
            ids.append(IMAGE_TOKEN_INDEX)
            labels.append(IGNORE_INDEX)
        for token, (first, last) in _encode(tokenizer, chunk, i == 0):
            learnt = any(first + start < b and last + start > a
                         for a, b in rendered.spans)
            ids.append(token)
            labels.append(token if learnt else IGNORE_INDEX)
        start += len(chunk) + len(IMAGE_PLACEHOLDER)
    return MaskedTokens(ids, labels)


def tokenize_prompt(question: str,
                    template: ConversationTemplate,
                    tokenizer: Any,
                    has_image: bool = True) -> List[int]:
    """Tokenise a question, up to where the model has to answer.

    Args:
        question (str): The question; the image comes before it.
        template (ConversationTemplate): As in training.
        tokenizer (PreTrainedTokenizerFast): As in training.
        has_image (bool): Whether there is an image. Defaults to True.

    Returns:
        List[int]: Token ids, with -200 for the image.
    """
    if has_image:
        question = f'{IMAGE_PLACEHOLDER}\n{question}'
    return tokenize_conversation([('human', question)], template,
                                 tokenizer).input_ids


def _encode(tokenizer: Any, text: str,
            is_first: bool) -> List[Tuple[int, Tuple[int, int]]]:
    """Tokens and their characters; the start mark in the first chunk only."""
    # LLaVA's own tokenizer adds the start mark, an end mark would come from
    # the template again
    out = tokenizer(text, return_offsets_mapping=True, verbose=False)
    tokens = list(zip(out['input_ids'], out['offset_mapping']))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    is_added = [b == a for _, (a, b) in tokens]
    if tokens and is_added[-1] and tokens[-1][0] == eos != bos:
        tokens = tokens[:-1]
    if tokens and is_added[0] and tokens[0][0] == bos and not is_first:
        tokens = tokens[1:]
    return tokens


def _check(tokenizer: Any) -> None:
    if not getattr(tokenizer, 'is_fast', False):
        raise ValueError(
            f'the tokenizer {type(tokenizer).__name__} gives no character '
            'offsets, which the loss mask needs; use a fast one (a folder '
            'with tokenizer.json, or use_fast=True)')
    if tokenizer.eos_token is None:
        raise ValueError(
            'the tokenizer has no end mark (`eos_token`), by which the model '
            'ends its answers; set it in its tokenizer_config.json')
