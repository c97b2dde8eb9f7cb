import importlib.util
import os.path as osp
from typing import Any, List, Set

import mmengine

from transmamba_mm.registry import DATASETS
from .base_vqa_dataset import BaseVQADataset

SPLITS = ('train', 'val', 'test')
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
        split (str): 'train', 'val' or 'test'. Defaults to 'train'.
        data_root (str): The ``data`` folder of the package; '' finds the
            installed package. Defaults to ''.
        val_images (int): So many training images, the last ones, are held
            out: they are in 'val' and not in 'train'. Defaults to 0.
        **kwargs (Any): Other arguments of the base class: ``fraction``,
            ``seed``, ``on_missing``, ``pipeline``, ``test_mode``.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: ``split`` is unknown, or is 'val' without ``val_images``.
    """

    METAINFO = dict(answer_types=('yes/no', 'shape', 'color'))

    def __init__(self,
                 split: str = 'train',
                 data_root: str = '',
                 val_images: int = 0,
                 **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'EasyVQADataset: split must be one of {SPLITS}, '
                             f'got {split!r}; change it in `dataset`')
        if split == 'val' and val_images < 1:
            raise ValueError(
                "EasyVQADataset: split='val' needs `val_images`, the number "
                'of training images to hold out, e.g. 400; give the same to '
                'the training set')
        self.split = split
        self.val_images = val_images
        folder = 'test' if split == 'test' else 'train'
        super().__init__(
            ann_file=f'{folder}/questions.json',
            data_root=data_root or package_data_root(),
            data_prefix=dict(img_path=f'{folder}/images'),
            **kwargs)

    def load_samples(self) -> List[dict]:
        """Read the questions.

        Returns:
            List[dict]: ``img_path``, ``question``, ``gt_answer``,
            ``answer_type``, ``image_id`` and ``question_id`` of each.
        """
        folder = self.data_prefix['img_path']
        rows = mmengine.load(self.ann_file)
        keep = self._images({row[2] for row in rows})
        return [
            dict(
                img_path=osp.join(folder, f'{image}.png'),
                question=question,
                gt_answer=answer,
                answer_type=answer_type(answer),
                image_id=image,
                question_id=i)
            for i, (question, answer, image) in enumerate(rows)
            if image in keep
        ]

    def _images(self, images: Set[int]) -> Set[int]:
        """The images of the split, out of those of its file."""
        if self.split == 'test' or not self.val_images:
            return images
        held_out = set(sorted(images)[-self.val_images:])
        return held_out if self.split == 'val' else images - held_out


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
