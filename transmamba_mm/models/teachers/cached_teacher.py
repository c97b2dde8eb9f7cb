import json
import logging
import os.path as osp
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.atomic_io import atomic_write
from ..data_preprocessors import AugmentingDataPreprocessor
from ..layers.token_layout import TokenLayout
from .feature_store import Features, FeatureStore
from .fingerprint import image_marks, same_marks, teacher_fingerprint
from .frozen_teacher import FrozenTeacher
from .teacher_inputs import as_dtype

_GB = 1e9
_THREADS = 8  # that read features


@MODELS.register_module()
class CachedTeacher(FrozenTeacher):
    """A teacher whose features are kept on disk.

    Each image is shown to the teacher once; from then on its features are
    read. This needs images that are the same each time: put
    ``transmamba_mm.FixedAugmentation`` around the training dataset, and use
    no batch augmentation. An image that is not the one seen before ends in
    an error.

    The features of one teacher (its weights, settings, the layers recorded,
    and how its images are prepared) are in one sub-folder. It may be filled
    by several processes, and by several runs, one after another or at once.
    How large it will become is logged at the start, how large it is at the
    end.

    Args:
        teacher (dict): Config of the teacher.
        cache_dir (str): Folder of the features.
        max_gb (float, optional): Where so many gigabytes (1e9 bytes) are
            written, the teacher runs for the other images each time. None
            sets no limit. Defaults to None.
        storage (str): Precision on disk, 'float32', or 'bfloat16' or
            'float16' for half the size. Defaults to 'float32'.

    Raises:
        ValueError: If ``storage`` is unknown or ``max_gb`` not positive.

    Examples:
        >>> teacher = dict(
        ...     type='transmamba_mm.CachedTeacher',
        ...     cache_dir='work_dirs/features',
        ...     teacher=dict(
        ...         type='transmamba_mm.HFTeacher',
        ...         pretrained='checkpoints/deit-small-patch16-224'))
    """

    uses_host = True

    def __init__(self,
                 teacher: dict,
                 cache_dir: str,
                 max_gb: Optional[float] = None,
                 storage: str = 'float32') -> None:
        if max_gb is not None and max_gb <= 0:
            raise ValueError(f'CachedTeacher.max_gb={max_gb}, but it must be '
                             'positive, or None for no limit.')
        inner = MODELS.build(teacher)
        super().__init__(inner.model, inner.head_name, inner.final_norm_name,
                         inner.layer_name)
        self.teacher = inner
        self.dtype, self.input_size = inner.dtype, inner.input_size
        self.takes_clips, self.takes_text = inner.takes_clips, inner.takes_text
        self.interpolates = inner.interpolates
        self.cache_dir = osp.expanduser(cache_dir)
        self.max_bytes = None if max_gb is None else max_gb * _GB
        self.storage = as_dtype(storage,
                                'CachedTeacher.storage') or torch.float32
        self._stores: Dict[tuple, FeatureStore] = {}
        self._told: set = set()
        self._full = False
        self._bytes = 0.
        self._read = self._computed = 0

    @property
    def embed_dims(self) -> int:
        """int: Width of the features."""
        return self.teacher.embed_dims

    @property
    def depth(self) -> int:
        """int: Number of transformer layers."""
        return self.teacher.depth

    @property
    def num_classes(self) -> Optional[int]:
        """int, optional: Number of logits, if there is a head."""
        return self.teacher.num_classes

    @property
    def native_size(self) -> Optional[Tuple[int, int]]:
        """Tuple[int, int], optional: See :class:`FrozenTeacher`."""
        return self.teacher.native_size

    def describe(self) -> str:
        """See :meth:`FrozenTeacher.describe`."""
        return f'{self.teacher.describe()}, kept in {self.cache_dir}'

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`FrozenTeacher.token_layout`."""
        return self.teacher.token_layout(image_size, layer)

    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """See :meth:`FrozenTeacher.normalisation`."""
        return self.teacher.normalisation()

    def match_inputs(self, mean: Tensor, std: Tensor, to_rgb: bool) -> None:
        """See :meth:`FrozenTeacher.match_inputs`."""
        self._stores.clear()
        self.teacher.match_inputs(mean, std, to_rgb)

    def check_student(self, preprocessor: nn.Module) -> None:
        """Refuse augmentations of batches: they make new images each time.

        Args:
            preprocessor (nn.Module): The student's data preprocessor.

        Raises:
            ValueError: If there is one.
        """
        if isinstance(preprocessor, AugmentingDataPreprocessor):
            raise ValueError(
                'CachedTeacher cannot keep the features of images that '
                'AugmentingDataPreprocessor augments anew each time: let the '
                '`pipeline` of the dataset augment them inside of '
                'FixedAugmentation, or use the teacher without '
                'CachedTeacher.')
        if getattr(preprocessor, 'batch_augments', None) is not None:
            raise ValueError(
                'CachedTeacher cannot keep the features of images that a '
                'batch augmentation (Mixup, CutMix) mixes anew each time: '
                'remove `augments` from model.train_cfg and `batch_augments` '
                'from the data_preprocessor, or use the teacher without '
                'CachedTeacher.')
        self.teacher.check_student(preprocessor)

    @torch.no_grad()
    def record(self,
               inputs: Union[Tensor, Dict[str, Tensor]],
               names: Sequence[str],
               data_samples: Optional[list] = None) -> Dict[str, Tensor]:
        """Read the features of the images, and compute what is missing.

        Args:
            inputs (Tensor | Dict[str, Tensor]): See
                :meth:`FrozenTeacher.record`.
            names (Sequence[str]): Module paths in the teacher's model.
            data_samples (List[DataSample], optional): Samples with an
                ``augmentation_key``. None runs the teacher and keeps
                nothing. Defaults to None.

        Returns:
            Dict[str, Tensor]: See :meth:`FrozenTeacher.record`.

        Raises:
            ValueError: If the samples have no keys, or an image is not the
                one seen before under its key.
        """
        if data_samples is None:
            return self.teacher.record(inputs, names)
        keys = [_key(sample) for sample in data_samples]
        names = tuple(dict.fromkeys(names))
        store = self._store(names)
        marks = image_marks(
            inputs['input_ids'] if isinstance(inputs, dict) else inputs)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(store.read, keys))
        for i, known in enumerate(found):
            if known is not None and not same_marks(known[1], marks[i]):
                self._refuse_image(keys[i], data_samples[i])
        rows = [None if known is None else known[0] for known in found]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            fresh = {
                name: x.cpu()
                for name, x in self.teacher.record(
                    _pick(inputs, missing), names).items()
            }
            for j, i in enumerate(missing):
                rows[i] = {name: x[j] for name, x in fresh.items()}
        self._tell_size(store, rows[0], data_samples[0])
        for i in missing:
            self._write(store, keys[i], rows[i], marks[i])
        self._read += len(rows) - len(missing)
        self._computed += len(missing)
        return _stack(rows, names, next(self.model.parameters()).device)

    def _store(self, names: tuple) -> FeatureStore:
        """Open the folder of this teacher and these layers."""
        if names not in self._stores:
            mark = teacher_fingerprint(self.teacher, sorted(names),
                                       str(self.storage))
            folder = osp.join(self.cache_dir, mark)
            try:
                store = FeatureStore(folder, self.storage)
                told = dict(
                    teacher=self.teacher.describe(),
                    layers=sorted(names),
                    storage=str(self.storage))
                if is_main_process():
                    atomic_write(
                        osp.join(folder, 'teacher.json'),
                        json.dumps(told, indent=2).encode())
            except OSError as error:
                raise OSError(
                    f"The folder '{folder}' cannot be written ({error}); "
                    'change `cache_dir` of CachedTeacher.') from error
            self._stores[names] = store
        return self._stores[names]

    def _write(self, store: FeatureStore, key: str, row: Features,
               marks: List[float]) -> None:
        """Keep the features of one image, while there is room."""
        if self._full:
            return
        size = get_world_size() * self._size(row)  # the others write too
        if self.max_bytes is not None and \
                self._bytes + size > self.max_bytes:
            self._stop(f'`max_gb`={self.max_bytes / _GB:g} is reached')
            return
        try:
            store.write(key, row, marks)
        except OSError as error:
            self._stop(f'writing failed ({error})')
            return
        self._bytes += size

    def _stop(self, why: str) -> None:
        """Keep no more features."""
        self._full = True
        print_log(
            f'CachedTeacher keeps no more features: {why}. The teacher runs '
            'for the other images each time.',
            logger='current',
            level=logging.WARNING)

    def _size(self, row: Features) -> int:
        """Return about how many bytes an image takes on disk."""
        return 400 + sum(x.numel() for x in row.values()) * \
            self.storage.itemsize

    def _tell_size(self, store: FeatureStore, row: Features,
                   sample: Any) -> None:
        """Log once how large the folder is and will be."""
        if store.folder in self._told:
            return
        self._told.add(store.folder)
        size, count = self._size(row), sample.get('augmentation_count')
        there = store.count()
        self._bytes += there * size
        needed, free = count * size, shutil.disk_usage(store.folder).free
        print_log(
            f'CachedTeacher: {count} images of {size / 1e6:.3f} MB need '
            f'{needed / _GB:.3f} GB in {store.folder}; {there} of them '
            f'({there * size / _GB:.3f} GB) are there, {free / _GB:.1f} GB of '
            'the disk are free.',
            logger='current')
        room = min(free + there * size, self.max_bytes or float('inf'))
        if needed > room:
            print_log(
                f'The features need {needed / _GB:.3f} GB, and there is room '
                f'for {room / _GB:.3f} GB: only the first images are kept. '
                "Set `storage='bfloat16'`, a larger `max_gb`, or another "
                '`cache_dir` of CachedTeacher.',
                logger='current',
                level=logging.WARNING)

    def _refuse_image(self, key: str, sample: Any) -> None:
        name = sample.get('img_path') or key
        raise ValueError(
            f"The image '{name}' is not the one whose features CachedTeacher "
            'has kept: the augmentation is not fixed. Put FixedAugmentation '
            'around the whole training dataset, and take transforms out that '
            'draw from random generators of their own. If the image files '
            f"were changed, delete '{self.cache_dir}'.")

    def close(self) -> None:
        """Log how the cache was used, and its size."""
        self.teacher.close()
        for store in self._stores.values():
            there = store.count()
            size = there * store.image_bytes()
            print_log(
                f'CachedTeacher: {self._read} times features were read, '
                f'{self._computed} times computed; {there} images '
                f'({size / _GB:.3f} GB) are in {store.folder}.',
                logger='current')


def _key(sample: Any) -> str:
    """Return the key of a sample, or say that it has none."""
    key = sample.get('augmentation_key')
    if key is None:
        raise ValueError(
            'CachedTeacher needs images that are augmented the same way each '
            'time: set train_dataloader.dataset=dict('
            "type='transmamba_mm.FixedAugmentation', dataset=...) around the "
            'present dataset, or use the teacher without CachedTeacher.')
    return key


def _pick(inputs: Union[Tensor, Dict[str, Tensor]],
          rows: List[int]) -> Union[Tensor, Dict[str, Tensor]]:
    """Take some images of a batch; the batch itself if it is all of them."""
    if isinstance(inputs, dict):
        return {k: _pick(v, rows) for k, v in inputs.items()}
    return inputs if len(rows) == len(inputs) else inputs[rows]


def _stack(rows: List[Features], names: Sequence[str],
           device: torch.device) -> Features:
    """Make a batch of the features of single images."""
    try:
        return {
            name: torch.stack([row[name] for row in rows]).to(device)
            for name in names
        }
    except RuntimeError as error:
        raise ValueError(
            'The images of a batch have features of different shapes '
            f'({error}); CachedTeacher needs images of one size, or texts '
            'padded to one length.') from error
