import logging
import os
import os.path as osp
import random
from typing import Any, Dict, List, Set, Tuple

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

ON_MISSING = ('error', 'skip')


class BaseVQADataset(BaseDataset):
    """What the datasets of questions about images share.

    A sub-class gives ``load_samples``, and this class takes a fraction of the
    images and looks for missing ones.

    Args:
        ann_file (str): Annotation file. Defaults to ''.
        fraction (float): Part of the images to keep, with all their
            questions, chosen by ``seed`` alone; smaller parts are within
            larger ones. Defaults to 1.
        seed (int): Seed of that choice. Defaults to 0.
        on_missing (str): 'error' stops if an image file is missing; 'skip'
            leaves its questions out and logs how many, with file names.
            Defaults to 'error'.
        data_root (str): Root of relative paths. Defaults to ''.
        data_prefix (dict): Folder of the images. Defaults to
            ``dict(img_path='')``.
        test_mode (bool): Defaults to False.
        **kwargs (Any): Other arguments of MMEngine's ``BaseDataset``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An argument or a file is wrong.
    """

    def __init__(self,
                 ann_file: str = '',
                 fraction: float = 1.0,
                 seed: int = 0,
                 on_missing: str = 'error',
                 data_root: str = '',
                 data_prefix: dict = dict(img_path=''),
                 test_mode: bool = False,
                 **kwargs: Any) -> None:
        if on_missing not in ON_MISSING:
            raise ValueError(
                f'{type(self).__name__}: on_missing must be one of '
                f'{ON_MISSING}, got {on_missing!r}; change it in `dataset`')
        if not 0 < fraction <= 1:
            raise ValueError(
                f'{type(self).__name__}: fraction must be above 0 and at most '
                f'1, got {fraction!r}; change it in `dataset`')
        self.fraction = fraction
        self.seed = seed
        self.on_missing = on_missing
        self.missing_images: Tuple[str, ...] = ()
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            test_mode=test_mode,
            **kwargs)

    @property
    def _where(self) -> str:
        loader = ('val_dataloader` or `test_dataloader'
                  if self.test_mode else 'train_dataloader')
        return f'the dataset in `{loader}`'

    def load_samples(self) -> List[dict]:
        """Read the annotations.

        Returns:
            List[dict]: One sample each, with ``img_path`` if it has an image.
        """
        raise NotImplementedError

    def load_data_list(self) -> List[dict]:
        """Read the samples whose images are there and in the fraction.

        Returns:
            List[dict]: The samples.
        """
        if self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'the annotation file {self.ann_file!r} does not exist; check '
                f'`data_root` and `ann_file` of {self._where}')
        samples = self._drop_missing(self.load_samples())
        samples = self._take_fraction(samples)
        if not samples:
            raise ValueError(
                f'{type(self).__name__} has no samples left; check '
                f'`ann_file`, `data_prefix` and `fraction` of {self._where}')
        return samples

    def _drop_missing(self, samples: List[dict]) -> List[dict]:
        files: Dict[str, Set[str]] = {}
        missing = {}
        for sample in samples:
            path = sample.get('img_path')
            if path is None:
                continue
            folder, name = osp.split(path)
            if folder not in files:
                is_there = osp.isdir(folder or '.')
                files[folder] = set(
                    os.listdir(folder or '.') if is_there else ())
            if name not in files[folder]:
                missing[path] = None
        if not missing:
            return samples
        self.missing_images = tuple(missing)
        names = ', '.join(self.missing_images[:5])
        kept = [s for s in samples if s.get('img_path') not in missing]
        if self.on_missing == 'error' or not kept:
            raise FileNotFoundError(
                f'{len(missing)} images do not exist, such as {names}; check '
                f'`data_root` and `data_prefix` of {self._where}, or leave '
                'them out with on_missing=\'skip\' there')
        print_log(
            f'{type(self).__name__}: {len(missing)} images are missing; '
            f'{len(samples) - len(kept)} samples are left out: {names}',
            logger='current',
            level=logging.WARNING)
        return kept

    def _take_fraction(self, samples: List[dict]) -> List[dict]:
        if self.fraction == 1:
            return samples
        # a sample without an image counts as an image of its own
        keys = [s.get('img_path') or i for i, s in enumerate(samples)]
        images = sorted(dict.fromkeys(keys), key=str)
        random.Random(self.seed).shuffle(images)
        chosen = set(images[:max(1, round(self.fraction * len(images)))])
        return [s for key, s in zip(keys, samples) if key in chosen]
