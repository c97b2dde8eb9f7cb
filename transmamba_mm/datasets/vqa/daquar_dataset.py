import os.path as osp
from typing import Any, List

import mmengine

from transmamba_mm.registry import DATASETS
from .base_vqa_dataset import BaseVQADataset

SPLITS = ('train', 'val')
COLORS = frozenset(
    'black blue brown gray grey green orange pink purple red white yellow '
    'maroon silver gold beige violet cream'.split())


@DATASETS.register_module()
class DaquarDataset(BaseVQADataset):
    """DAQUAR: questions about photos of rooms, from NYU Depth v2.

    The folder has ``images``, ``train.json`` and ``val.json`` (lists of
    ``image``, ``question`` and ``answer``) and ``answer_space.txt``, one
    answer a line. Use a split by image: in the usual one, most test images
    are also training images. An answer can list several things, with commas.

    Args:
        split (str): 'train' or 'val'. Defaults to 'train'.
        data_root (str): The folder. Defaults to 'data/daquar'.
        single_answers (bool): Leave questions out whose answer lists several
            things. Defaults to False.
        **kwargs (Any): Other arguments of the base class: ``fraction``,
            ``seed``, ``on_missing``, ``pipeline``, ``test_mode``.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: ``split`` is unknown, or an answer is not in the answer
            space.
    """

    METAINFO = dict(answer_types=('number', 'color', 'list', 'object'))

    def __init__(self,
                 split: str = 'train',
                 data_root: str = 'data/daquar',
                 single_answers: bool = False,
                 **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'DaquarDataset: split must be one of {SPLITS}, '
                             f'got {split!r}; change it in `dataset`')
        self.split = split
        self.single_answers = single_answers
        super().__init__(
            ann_file=f'{split}.json',
            data_root=data_root,
            data_prefix=dict(img_path='images'),
            **kwargs)

    def load_samples(self) -> List[dict]:
        """Read the questions.

        Returns:
            List[dict]: ``img_path``, ``question``, ``gt_answer``,
            ``answer_type``, ``image_id`` and ``question_id`` of each.
        """
        space = self._answer_space()
        samples = []
        for i, row in enumerate(mmengine.load(self.ann_file)):
            answer = row['answer'].strip()
            parts = [part.strip() for part in answer.split(',')]
            unknown = [p for p in parts if space and p not in space]
            if unknown:
                raise ValueError(
                    f'the answer {answer!r} of entry {i} of {self.ann_file!r} '
                    'is not in answer_space.txt beside it; correct one of '
                    'them, or delete that file')
            if self.single_answers and len(parts) > 1:
                continue
            samples.append(
                dict(
                    img_path=osp.join(self.data_prefix['img_path'],
                                      row['image']),
                    question=row['question'].strip(),
                    gt_answer=answer,
                    answer_type=answer_type(answer),
                    image_id=row['image'],
                    question_id=i))
        return samples

    def _answer_space(self) -> frozenset:
        path = osp.join(osp.dirname(self.ann_file), 'answer_space.txt')
        if not osp.isfile(path):
            return frozenset()
        return frozenset(mmengine.list_from_file(path))


def answer_type(answer: str) -> str:
    """Tell what kind of answer it is; our choice, by the words alone.

    Args:
        answer (str): An answer of DAQUAR.

    Returns:
        str: 'number', 'color', 'list' (several things) or 'object'.
    """
    if ',' in answer:
        return 'list'
    if answer.isdigit():
        return 'number'
    return 'color' if answer in COLORS else 'object'
