import importlib.util
import os.path as osp
from typing import Any, List

import mmengine

from transmamba_mm.registry import DATASETS
from .base_vqa_dataset import BaseVQADataset

SPLITS = ('train', 'test')
YES_NO = ('yes', 'no')
SHAPES = ('circle', 'rectangle', 'triangle')


def package_data_root() -> str:
    """Find the data folder of the installed package ``easy-vqa``.

    Returns:
        str: The folder, which has ``train`` and ``test``.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec('easy_vqa')
    if spec is None:
        raise FileNotFoundError(
            'easy-VQA is not there: run `pip install easy-vqa`, or set '
            '`data_root` of the dataset to the `data` folder of that package')
    return osp.join(osp.dirname(spec.origin), 'data')


@DATASETS.register_module()
class EasyVQADataset(BaseVQADataset):
    """easy-VQA: 48,248 questions on 5,000 images of one coloured shape.

    https://github.com/vzhou842/easy-VQA. The data comes with the package
    ``easy-vqa``. 74 % of the answers are yes or no, so compare each of the
    answer types 'yes/no', 'shape' and 'color' with its own baseline.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): The ``data`` folder of the package; '' finds the
            installed package. Defaults to ''.
        **kwargs (Any): Other arguments of the base class: ``fraction``,
            ``seed``, ``on_missing``, ``pipeline``, ``test_mode``.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: ``split`` is unknown.
    """

    METAINFO = dict(answer_types=('yes/no', 'shape', 'color'))

    def __init__(self,
                 split: str = 'train',
                 data_root: str = '',
                 **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'EasyVQADataset: split must be one of {SPLITS}, '
                             f'got {split!r}; change it in `dataset`')
        self.split = split
        super().__init__(
            ann_file=f'{split}/questions.json',
            data_root=data_root or package_data_root(),
            data_prefix=dict(img_path=f'{split}/images'),
            **kwargs)

    def load_samples(self) -> List[dict]:
        """Read the questions.

        Returns:
            List[dict]: ``img_path``, ``question``, ``gt_answer``,
            ``answer_type``, ``image_id`` and ``question_id`` of each.
        """
        folder = self.data_prefix['img_path']
        rows = mmengine.load(self.ann_file)
        return [
            dict(
                img_path=osp.join(folder, f'{image}.png'),
                question=question,
                gt_answer=answer,
                answer_type=answer_type(answer),
                image_id=image,
                question_id=i)
            for i, (question, answer, image) in enumerate(rows)
        ]


def answer_type(answer: str) -> str:
    """Tell what kind of answer it is.

    Args:
        answer (str): An answer of easy-VQA.

    Returns:
        str: 'yes/no', 'shape' or 'color'.
    """
    if answer in YES_NO:
        return 'yes/no'
    return 'shape' if answer in SHAPES else 'color'
