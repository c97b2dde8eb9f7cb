import json
import os.path as osp
from typing import Any, List

import mmengine
import numpy as np

from transmamba_mm.registry import DATASETS
from .base_vqa_dataset import BaseVQADataset
from .conversation import IMAGE_PLACEHOLDER, normalise_turns

TEXT_ONLY = ('skip', 'keep')


@DATASETS.register_module()
class LlavaInstructDataset(BaseVQADataset):
    """Conversations about images, in the json form of LLaVA.

    A list of dicts with ``image`` (a path below the image folder; missing in
    text-only samples) and ``conversations``, turns with ``from`` ('human',
    'gpt') and ``value``; one ``<image>`` stands where the image is.
    LLaVA-Pretrain, LLaVA-Instruct (158k, 665k) and LLaVA-CoT-100k have this
    form; json lines are read too. A sample has ``conversations``, a list of
    (speaker, text).

    Args:
        ann_file (str): The json or jsonl file.
        text_only (str): Samples without an image are left out ('skip') or
            get a black image that no token stands for ('keep'). Defaults to
            'skip'.
        blank_size (int): Height and width of the black image. Defaults to
            336.
        insert_image (bool): Put ``<image>`` before the first question of a
            sample whose text has none; without it, such a sample is an
            error. Defaults to False.
        tags (Sequence[str], optional): Names of the parts of an answer that
            must be there, such as ``('SUMMARY', 'CAPTION', 'REASONING',
            'CONCLUSION')`` for LLaVA-CoT, whose answers have them as
            ``<SUMMARY>...</SUMMARY>``. Defaults to ().
        **kwargs (Any): Other arguments of the base class: ``fraction``,
            ``seed``, ``on_missing``, ``data_root``, ``data_prefix``,
            ``pipeline``, ``test_mode``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A conversation or an argument is wrong.
    """

    def __init__(self,
                 ann_file: str,
                 text_only: str = 'skip',
                 blank_size: int = 336,
                 insert_image: bool = False,
                 tags: tuple = (),
                 **kwargs: Any) -> None:
        if text_only not in TEXT_ONLY:
            raise ValueError(
                f'LlavaInstructDataset: text_only must be one of {TEXT_ONLY}, '
                f'got {text_only!r}; change it in `dataset`')
        self.text_only = text_only
        self.blank_size = blank_size
        self.insert_image = insert_image
        self.tags = tuple(tags)
        super().__init__(ann_file=ann_file, **kwargs)

    def load_samples(self) -> List[dict]:
        """Read and check the conversations.

        Returns:
            List[dict]: ``conversations``, ``img_path`` and ``sample_id``.
        """
        if self.ann_file.endswith('.jsonl'):
            rows = [
                json.loads(line)
                for line in mmengine.list_from_file(self.ann_file) if line
            ]
        else:
            rows = mmengine.load(self.ann_file)
        samples = [self._parse(i, row) for i, row in enumerate(rows)]
        if self.text_only == 'skip':
            samples = [s for s in samples if 'img_path' in s]
        return samples

    def _parse(self, i: int, row: dict) -> dict:
        source = f'entry {i} of {self.ann_file!r}'
        if 'conversations' not in row:
            raise ValueError(f'{source} has no `conversations`; LLaVA\'s form '
                             'is a list of dicts with `image` and '
                             '`conversations`')
        has_image = bool(row.get('image'))
        conversation = row['conversations']
        if has_image and self.insert_image:
            conversation = _insert_image(conversation)
        turns = normalise_turns(conversation, has_image, source)
        for _, answer in turns[1::2]:
            absent = [t for t in self.tags if f'<{t}>' not in answer]
            if absent:
                raise ValueError(
                    f'{source}: the answer has no part <{absent[0]}>; `tags` '
                    f'of {self._where} asks for {self.tags}')
        sample = dict(
            conversations=turns,
            sample_id=str(row.get('id', i)),
            has_image=has_image)
        if has_image:
            sample['img_path'] = osp.join(self.data_prefix['img_path'],
                                          row['image'])
        return sample

    def get_data_info(self, idx: int) -> dict:
        """Give a sample; a text-only one with a black image.

        Args:
            idx (int): Index.

        Returns:
            dict: The sample.
        """
        info = super().get_data_info(idx)
        if 'img_path' not in info:
            info['img'] = np.zeros((self.blank_size, self.blank_size, 3),
                                   np.uint8)
        return info


def _insert_image(conversation: List[dict]) -> List[dict]:
    """Put the image into the first turn of the user, if it is nowhere."""
    values = [str(turn.get('value')) for turn in conversation]
    speakers = [turn.get('from') for turn in conversation]
    if any(IMAGE_PLACEHOLDER in value for value in values):
        return conversation
    first = 1 if speakers[:1] in (['gpt'], ['assistant']) else 0
    return [
        dict(turn, value=f'{IMAGE_PLACEHOLDER}\n{value}')
        if i == first else turn
        for i, (turn, value) in enumerate(zip(conversation, values))
    ]
