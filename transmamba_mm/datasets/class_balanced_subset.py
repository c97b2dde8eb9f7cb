import copy
import hashlib
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np
from mmengine.dataset import BaseDataset, force_full_init
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from transmamba_mm.registry import DATASETS


def select_class_balanced(labels: Sequence[int],
                          fraction: float,
                          seed: int = 0) -> List[int]:
    """Choose the same fraction of the samples of each class.

    Each class is shuffled once, by the seed alone, and its head is taken: the
    samples of a smaller fraction are among those of a larger one. The counts
    are rounded, and no class is left without samples.

    Args:
        labels (Sequence[int]): Class of each sample.
        fraction (float): In (0, 1].
        seed (int): Seed of the choice. Defaults to 0.

    Returns:
        List[int]: Chosen indices, ascending.
    """
    labels = np.asarray(labels)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, math.floor(fraction * len(members) + 0.5))
        # RandomState keeps its stream in all NumPy versions.
        order = np.random.RandomState([seed, label]).permutation(len(members))
        chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen)).tolist()


@DATASETS.register_module()
class ClassBalancedSubset:
    """A fixed, class-balanced fraction of a dataset.

    With ``fraction=0.75`` the model trains on 75 % of the images of each
    class, always the same ones. Subsets of one seed are nested. The paper
    trains its students on part of the data; how the part is chosen is our
    choice. ``DataSubsetHook`` writes the chosen indices to the work folder.

    Args:
        dataset (dict | BaseDataset): A classification dataset with one label
            an image, or its config.
        fraction (float): Part of each class to keep, in (0, 1]; at least one
            image of a class is kept.
        seed (int): Seed of the choice; it does not depend on the seed of the
            run. Defaults to 0.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A value is out of range, or the images have no labels or
            several ones.

    Examples:
        >>> train_dataloader = dict(dataset=dict(
        >>>     type='transmamba_mm.ClassBalancedSubset', fraction=0.75,
        >>>     dataset=dict(type='ImageNet', data_root='data/imagenet',
        >>>                  split='train', pipeline=train_pipeline)))
    """

    def __init__(self,
                 dataset: Union[dict, BaseDataset],
                 fraction: float,
                 seed: int = 0) -> None:
        self.fraction = _check_number('fraction', fraction, float)
        self.seed = _check_number('seed', seed, int)
        built = isinstance(dataset, dict)
        if built:
            dataset = MMPRETRAIN_DATASETS.build(dataset)
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                'ClassBalancedSubset: `dataset` must be a dataset or its '
                f'config, got {type(dataset).__name__}; put other wrappers '
                'around ClassBalancedSubset, not inside')
        self.dataset = dataset if built else copy.deepcopy(dataset)
        self.indices: Optional[List[int]] = None
        self.full_size = 0
        self._full_counts: Dict[int, int] = {}
        self._fully_initialized = False
        # Follow the setting of the dataset, as MMPretrain's wrappers do.
        if dataset._fully_initialized:
            self.full_init()

    def full_init(self) -> None:
        """Load the annotations and choose the images."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        self.full_size = len(self.dataset)
        labels = [self._label(index) for index in range(self.full_size)]
        if not labels:
            raise ValueError('ClassBalancedSubset: the dataset is empty; '
                             'check its `data_root` and `ann_file`')
        self._full_counts = _count(labels)
        self.indices = select_class_balanced(labels, self.fraction, self.seed)
        # In place: `get_subset` copies by a memo that MMEngine keeps for good,
        # so that a new object may be taken for an old one with the same id.
        self.dataset.get_subset_(self.indices)
        self._fully_initialized = True

    def _label(self, index: int) -> int:
        """Return the only label of an image of the whole dataset."""
        try:
            labels = self.dataset.get_cat_ids(index)
        except KeyError as error:
            raise ValueError(
                'ClassBalancedSubset: image '
                f'{self.dataset.get_data_info(index)} has no label; set '
                'with_label=True in its `dataset`') from error
        if len(labels) != 1:
            raise ValueError(
                'ClassBalancedSubset needs one label an image, and image '
                f'{index} has {labels}')
        return labels[0]

    @property
    def metainfo(self) -> dict:
        """dict: A copy of the dataset's meta information."""
        return self.dataset.metainfo

    @property
    def CLASSES(self) -> Optional[Sequence[str]]:
        """Sequence[str], optional: Names of the classes."""
        return self.metainfo.get('classes')

    @property
    def class_to_idx(self) -> Dict[str, int]:
        """Dict[str, int]: Class name to label."""
        return {name: label for label, name in enumerate(self.CLASSES)}

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of the ``idx``-th chosen image.

        Args:
            idx (int): Index among the chosen images.

        Returns:
            dict: Its annotation.
        """
        return self.dataset.get_data_info(idx)

    @force_full_init
    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the label of the ``idx``-th chosen image, in a list.

        Args:
            idx (int): Index among the chosen images.

        Returns:
            List[int]: One label.
        """
        return self.dataset.get_cat_ids(idx)

    @force_full_init
    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of the chosen images.

        Returns:
            np.ndarray: Labels of shape (number of images, ).
        """
        return self.dataset.get_gt_labels()

    @force_full_init
    def __len__(self) -> int:
        return len(self.dataset)

    @force_full_init
    def __getitem__(self, idx: int) -> Any:
        return self.dataset[idx]

    @property
    def __getitems__(self) -> Callable[[List[int]], Any]:
        """Callable: Makes a whole batch, if the dataset can do so."""
        return self.dataset.__getitems__

    @force_full_init
    def summary(self) -> Dict[str, Any]:
        """Say what was chosen, so that it can be repeated and compared.

        Returns:
            Dict[str, Any]: Plain values for JSON: ``fraction``, ``seed``,
            ``num_images``, ``dataset_size``, ``classes`` (name to images
            chosen and available), ``sample_hash`` (SHA-256 of the chosen
            files' names below the image folder, with their labels) and
            ``indices`` (into the whole dataset; 'all' if nothing is left
            out).
        """
        digest, labels = hashlib.sha256(), []
        prefix = str(getattr(self.dataset, 'img_prefix', ''))
        for index in range(len(self)):
            path = str(self.get_data_info(index).get('img_path', index))
            labels += self.get_cat_ids(index)
            name = path[len(prefix):] if path.startswith(prefix) else path
            digest.update(f'{name.lstrip("/")}\t{labels[-1]}\n'.encode())
        names, counts = self.CLASSES, _count(labels)
        whole = len(self) == self.full_size
        return dict(
            fraction=self.fraction,
            seed=self.seed,
            num_images=len(self),
            dataset_size=self.full_size,
            classes={
                str(names[label] if names else label): [counts[label], total]
                for label, total in self._full_counts.items()
            },
            sample_hash=digest.hexdigest(),
            indices='all' if whole else self.indices)

    def __repr__(self) -> str:
        size = len(self) if self._fully_initialized else 'not initialised'
        return (f'{type(self).__name__}(fraction={self.fraction}, '
                f'seed={self.seed}, size={size})\n{self.dataset!r}')


def _count(labels: Sequence[int]) -> Dict[int, int]:
    """Count the samples of each class, in the order of the labels."""
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def _check_number(name: str, value: Any, kind: type) -> Union[int, float]:
    """Check the fraction or the seed as given in a config."""
    allowed = 'a number in (0, 1]' if kind is float else 'an integer >= 0'
    message = (f'ClassBalancedSubset: `{name}` must be {allowed}, got '
               f'{value!r}; change `train_dataloader.dataset.{name}`')
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise TypeError(message)
    if not (0 < value <= 1 if kind is float else 0 <= value < 2**32):
        raise ValueError(message)
    return kind(value)
