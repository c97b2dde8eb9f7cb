import logging
from typing import Any, Dict, List, Optional, Set

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from transmamba_mm.registry import TRANSFORMS
from ..vqa.conversation import IMAGE_PLACEHOLDER, get_template
from ..vqa.masked_tokens import MaskedTokens, tokenize_conversation
from ..vqa.text_tokenizer import load_text_tokenizer

ON_LONG = ('cut', 'skip', 'error')
SHORT_ANSWER = '\nAnswer the question using a single word or phrase.'


@TRANSFORMS.register_module()
class TokenizeConversation(BaseTransform):
    """Turn a conversation or a question into token ids and labels.

    Masks and templates are those of LLaVA-1.5: the model learns its answers
    and the end marks after them, and nothing else. A sample has either
    ``conversations`` (:class:`LlavaInstructDataset`) or ``question`` and
    ``gt_answer`` (MMPretrain's datasets and ours); of several answers with
    weights, the heaviest is learnt.

    Args:
        tokenizer (str): Folder of a fast tokenizer of Transformers.
        template (str): 'v1', 'plain' or 'short'. Defaults to 'v1'.
        question_suffix (str): Text after a ``question``. LLaVA-1.5 asks for
            short answers with '\\nAnswer the question using a single word or
            phrase.' (``SHORT_ANSWER``). Defaults to ''.
        for_answer (bool): End the text where the model has to answer, without
            labels: for validation and tests. Defaults to False.
        max_length (int): Tokens of the text, of which the image is one.
            Defaults to 2048.
        on_long (str): What to do about a longer text. Defaults to 'cut'.

            - 'cut': drop its end, as LLaVA does; a sample that keeps no
              answer is skipped.
            - 'skip': train on another sample in its place. ``num_skipped``
              counts these, and each is logged by name.
            - 'error': stop. So does a question of a test with 'cut' and
              'skip' too, which cannot be cut.
        cache (bool): Keep the tokens of each distinct text in memory, in
            each worker, for data sets that repeat their questions. Defaults
            to False.

    Raises:
        ValueError: An argument is not allowed, or a text is too long.
    """

    def __init__(self,
                 tokenizer: str,
                 template: str = 'v1',
                 question_suffix: str = '',
                 for_answer: bool = False,
                 max_length: int = 2048,
                 on_long: str = 'cut',
                 cache: bool = False) -> None:
        if on_long not in ON_LONG:
            raise ValueError(f'TokenizeConversation: on_long must be one of '
                             f'{ON_LONG}, got {on_long!r}')
        if not isinstance(max_length, int) or max_length < 1:
            raise ValueError('TokenizeConversation: max_length must be a '
                             f'positive integer, got {max_length!r}')
        self.folder = tokenizer
        self.template = get_template(template)
        self.tokenizer = load_text_tokenizer(tokenizer)
        self.question_suffix = question_suffix
        self.for_answer = for_answer
        self.max_length = max_length
        self.on_long = on_long
        self.cache = cache
        self.num_skipped = 0
        self._known: Dict[tuple, MaskedTokens] = {}
        self._reported: Set[str] = set()

    def transform(self, results: dict) -> Optional[dict]:
        """Tokenise a sample.

        Args:
            results (dict): Holds ``conversations``, or ``question``.

        Returns:
            Optional[dict]: The sample with ``input_ids``, -200 for the image;
            with ``labels``, -100 where nothing is learnt, unless
            ``for_answer``; with ``question`` and ``gt_answer``. Ids and
            labels are int64 arrays (T,): tensors would take a file each on
            their way from a worker. None if the sample is skipped.
        """
        turns = self._turns(results)
        if self.for_answer and len(turns) % 2 == 0:
            results.setdefault('gt_answer', turns[-1][1])
            turns = turns[:-1]
        tokens = self._tokenize(turns)
        if len(tokens.input_ids) > self.max_length:
            tokens = self._shorten(tokens, results)
            if tokens is None:
                return None
        results.setdefault(
            'question', turns[-1 - (len(turns) % 2 == 0)][1].replace(
                IMAGE_PLACEHOLDER, '').strip())
        results['input_ids'] = np.array(tokens.input_ids, np.int64)
        if not self.for_answer:
            results['labels'] = np.array(tokens.labels, np.int64)
        return results

    def _tokenize(self, turns: List[tuple]) -> MaskedTokens:
        key = tuple(map(tuple, turns))
        tokens = self._known.get(key)
        if tokens is None:
            tokens = tokenize_conversation(turns, self.template,
                                           self.tokenizer)
            if self.cache:
                self._known[key] = tokens
        return tokens

    def _turns(self, results: dict) -> List[tuple]:
        if 'conversations' in results:
            return list(results['conversations'])
        if not str(results.get('question') or '').strip():
            raise ValueError(f'the sample {_name(results)} has no question')
        text = results['question'] + self.question_suffix
        if results.get('has_image', True):
            text = f'{IMAGE_PLACEHOLDER}\n{text}'
        turns = [('human', text)]
        if not self.for_answer:
            turns.append(('gpt', best_answer(results)))
        return turns

    def _shorten(self, tokens: MaskedTokens,
                 results: dict) -> Optional[MaskedTokens]:
        length = len(tokens.input_ids)
        message = (f'the text of {_name(results)} has {length} tokens, more '
                   f'than max_length={self.max_length} of '
                   'TokenizeConversation')
        if self.on_long == 'error' or self.for_answer:
            raise ValueError(
                f'{message}; raise it (the model must have been trained for '
                'it), or shorten the text')
        shorter = tokens.truncate(self.max_length)
        if self.on_long == 'cut' and shorter.num_learnt:
            return shorter
        self.num_skipped += 1
        name = _name(results)
        if name not in self._reported:
            self._reported.add(name)
            print_log(
                f'{message}; another sample takes its place '
                f'({self.num_skipped} so far)',
                logger='current',
                level=logging.WARNING)
        return None

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(tokenizer={self.folder!r}, '
                f'template={self.template.name!r}, '
                f'question_suffix={self.question_suffix!r}, '
                f'for_answer={self.for_answer}, '
                f'max_length={self.max_length}, on_long={self.on_long!r}, '
                f'cache={self.cache})')


def best_answer(results: dict) -> str:
    """Choose the answer that a sample teaches.

    Args:
        results (dict): Holds ``target_answer``, or ``gt_answer``: a text, or
            a list of texts with their weights ``gt_answer_weight``.

    Returns:
        str: The text, or the one with the largest weight.

    Raises:
        ValueError: There is no answer.
    """
    answer: Any = results.get('target_answer', results.get('gt_answer'))
    if isinstance(answer, (list, tuple)) and answer:
        weights = results.get('gt_answer_weight') or [1.] * len(answer)
        answer = answer[max(range(len(answer)), key=weights.__getitem__)]
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(
            f'the sample {_name(results)} has no text as `gt_answer` to learn '
            f'(got {answer!r}); train on a split with answers, or set '
            'for_answer=True in TokenizeConversation')
    return answer


def _name(results: dict) -> str:
    keys = ('sample_id', 'question_id', 'img_path', 'sample_idx')
    parts = [f'{key} {results[key]!r}' for key in keys if key in results]
    return '(' + ', '.join(parts) + ')'
