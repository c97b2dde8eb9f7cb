import torch
from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS
from ..text_tokens import TextTokens
from ..tokenizers import build_tokenizer


@TRANSFORMS.register_module()
class TokenizeText(BaseTransform):
    """Turn the caption into token ids.

    A caption longer than ``max_length`` is cut, keeping its last token (the
    end mark); ``VideoReportHook`` counts those.

    Args:
        tokenizer (dict): Its ``type`` and arguments. Defaults to
            ``dict(type='open_clip')``.

            - 'open_clip': CLIP's, which open_clip brings along.
            - 'huggingface': that of the local folder ``name``.
            - 'words': :class:`~transmamba_mm.datasets.tokenizers.
              WordTokenizer`, with ``vocab_size``.
        max_length (int): Tokens of the result, filled up by the tokenizer's
            padding. Defaults to 77.

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(self,
                 tokenizer: dict = dict(type='open_clip'),
                 max_length: int = 77) -> None:
        if not isinstance(max_length, int) or max_length < 3:
            raise ValueError(
                'TokenizeText: max_length must be an integer >= 3, got '
                f'{max_length!r}; change it in the `pipeline` of the dataset')
        self.cfg = dict(tokenizer)
        self.tokenizer = build_tokenizer(tokenizer)
        self.max_length = max_length

    def transform(self, results: dict) -> dict:
        """Tokenise ``caption``.

        Args:
            results (dict): Holds ``caption``.

        Returns:
            dict: The sample with ``text``, which holds ``input_ids`` and
            ``attention_mask`` (1 marks a token), int64 of shape
            (max_length, ); and ``caption_cut``, whether it was too long.
        """
        ids = self.tokenizer.encode(results['caption'])
        results['caption_cut'] = len(ids) > self.max_length
        if results['caption_cut']:
            ids = [*ids[:self.max_length - 1], ids[-1]]
        mask = torch.zeros(self.max_length, dtype=torch.int64)
        mask[:len(ids)] = 1
        padded = torch.full_like(mask, self.tokenizer.pad_id)
        padded[:len(ids)] = torch.tensor(ids)
        results['text'] = TextTokens(input_ids=padded, attention_mask=mask)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(tokenizer={self.cfg}, '
                f'max_length={self.max_length})')
