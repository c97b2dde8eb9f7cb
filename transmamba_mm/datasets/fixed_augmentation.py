import hashlib
import random
import re
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.dataset import force_full_init
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from transmamba_mm.registry import DATASETS
from transmamba_mm.utils.random_state import get_random_state, set_random_state

_ADDRESS = re.compile(r' at 0x[0-9a-fA-F]+')


@DATASETS.register_module()
class FixedAugmentation:
    """A dataset whose images are augmented the same way each time.

    The augmentation of an image depends on ``seed`` and on the image alone:
    on no epoch, worker, process or resume. So the features that a teacher
    gives for it can be stored; each sample gets an ``augmentation_key``, by
    which :class:`~transmamba_mm.models.CachedTeacher` finds them. With
    ``views=4`` each image has four such versions, and each time one is drawn.
    Fixed versions are fewer than free augmentation would give (our choice,
    for speed): a long training may overfit to them.

    Put it around all other wrappers. What the transforms draw from Python's,
    NumPy's and PyTorch's generators is fixed; what they draw elsewhere is
    not, and a batch augmentation such as Mixup comes later and is not either.

    Args:
        dataset (dict | BaseDataset): A classification dataset, or its config.
        seed (int): Seed of the augmentation. Defaults to 0.
        views (int): Versions of each image. Defaults to 1.

    Raises:
        ValueError: ``seed`` or ``views`` is out of range.

    Examples:
        >>> train_dataloader = dict(dataset=dict(
        >>>     type='transmamba_mm.FixedAugmentation', views=2,
        >>>     dataset=dict(type='CIFAR100', data_root='data/cifar100',
        >>>                  split='train', pipeline=train_pipeline)))
    """

    def __init__(self,
                 dataset: Union[dict, Any],
                 seed: int = 0,
                 views: int = 1) -> None:
        self.seed = _check_count('seed', seed, 0)
        self.views = _check_count('views', views, 1)
        if isinstance(dataset, dict):
            dataset = MMPRETRAIN_DATASETS.build(dataset)
        self.dataset = dataset
        self._recipe = ''
        self._fully_initialized = False
        if getattr(dataset, '_fully_initialized', True):
            self.full_init()

    def full_init(self) -> None:
        """Load the annotations."""
        if self._fully_initialized:
            return
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        told = (self.seed, *_describe(self.dataset))
        self._recipe = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        self._fully_initialized = True

    @property
    def metainfo(self) -> dict:
        """dict: A copy of the dataset's meta information."""
        return self.dataset.metainfo

    @property
    def CLASSES(self) -> Optional[Sequence[str]]:
        """Sequence[str], optional: Names of the classes."""
        return self.metainfo.get('classes')

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of an image.

        Args:
            idx (int): Index of the image.

        Returns:
            dict: Its annotation.
        """
        return self.dataset.get_data_info(idx)

    @force_full_init
    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the labels of an image.

        Args:
            idx (int): Index of the image.

        Returns:
            List[int]: Its labels.
        """
        return self.dataset.get_cat_ids(idx)

    @force_full_init
    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of all images.

        Returns:
            np.ndarray: Labels of shape (number of images, ).
        """
        return self.dataset.get_gt_labels()

    @force_full_init
    def __len__(self) -> int:
        return len(self.dataset)

    @force_full_init
    def __getitem__(self, idx: int) -> Dict[str, Any]:
        size = len(self.dataset)
        if not -size <= idx < size:
            raise IndexError(f'{idx} is no index of {size} images')
        view = int(np.random.randint(self.views)) if self.views > 1 else 0
        idx = int(idx) % size
        key = f'{self._recipe}-{self._name(idx)}-{view}'
        state = get_random_state()
        try:
            _seed_all(key)
            sample = self.dataset[idx]
        finally:
            set_random_state(state)
        packed = sample.get('data_samples') if isinstance(sample,
                                                          dict) else None
        if not hasattr(packed, 'set_metainfo'):
            raise ValueError(
                'FixedAugmentation needs samples with `data_samples`; let the '
                "`pipeline` of its dataset end with dict(type='PackInputs')")
        packed.set_metainfo(
            dict(augmentation_key=key, augmentation_count=size * self.views))
        return sample

    def _name(self, idx: int) -> str:
        """Name an image, whatever its index in a subset is."""
        info = {}
        if hasattr(self.dataset, 'get_data_info'):
            info = self.dataset.get_data_info(idx)
        if isinstance(info.get('img_path'), str):
            told = info['img_path'].encode()
        elif isinstance(info.get('img'), np.ndarray):
            told = np.ascontiguousarray(info['img']).tobytes()
        else:
            return f'{idx}of{len(self.dataset)}'
        return hashlib.sha256(told).hexdigest()[:24]

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(seed={self.seed}, '
                f'views={self.views})\n{self.dataset!r}')


def _describe(dataset: Any) -> List[str]:
    """Describe a dataset's transforms, through all wrappers."""
    told = []
    if hasattr(dataset, 'pipeline'):
        told += [type(dataset).__name__, repr(dataset.pipeline)]
    inner = list(getattr(dataset, 'datasets', []))
    inner += [dataset.dataset] if hasattr(dataset, 'dataset') else []
    for child in inner:
        told += _describe(child)
    return [_ADDRESS.sub('', text) for text in told]


def _seed_all(key: str) -> None:
    """Seed the generators that transforms draw from, but those of a GPU."""
    digest = hashlib.sha256(key.encode()).digest()
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, dtype=np.uint32))
    torch.default_generator.manual_seed(
        int.from_bytes(digest[:8], 'little') >> 1)


def _check_count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f'FixedAugmentation: `{name}` must be an integer >= {least}, got '
            f'{value!r}; change `train_dataloader.dataset.{name}`')
    return value
