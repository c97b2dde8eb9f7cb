import hashlib
import json
import os
import os.path as osp
from typing import List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.dataset.base_dataset import force_full_init
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmpretrain.structures import DataSample

from transmamba_mm.registry import DATASETS
from .image_folder_dataset import ImageFolderDataset


@DATASETS.register_module()
class CachedImageFolder(ImageFolderDataset):
    """An image folder that is decoded once and read as whole batches.

    For small images, where decoding and collating cost more than the model:
    all images are kept as bytes, in one file that runs side by side share,
    and a batch is one indexing. Augment on the device, by
    ``transmamba_mm.AugmentingDataPreprocessor``. With several processes on
    several machines, each needs the same ``cache_dir`` or one of its own.

    Args:
        *args: As ``CustomDataset``.
        cache_dir (str, optional): Where the decoded images are kept; None
            means '.cache' beside the image folder. Defaults to None.
        **kwargs: As ``CustomDataset``. The ``pipeline`` must make images of
            one size, and the same at each call: loading and resizing.

    Raises:
        ValueError: If the images are of several sizes.

    Examples:
        >>> train_dataloader = dict(
        ...     num_workers=0,
        ...     collate_fn=dict(type='transmamba_mm.keep_batch'),
        ...     dataset=dict(
        ...         type='transmamba_mm.CachedImageFolder',
        ...         data_root='data/cifar10', data_prefix='train',
        ...         pipeline=[dict(type='transmamba_mm.LoadImage')]))
    """

    def __init__(self,
                 *args,
                 cache_dir: Optional[str] = None,
                 **kwargs) -> None:
        self.cache_dir = cache_dir
        self._images: Optional[np.ndarray] = None
        self._rows = self._labels = None
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Load image paths and labels.

        Returns:
            List[dict]: As ``CustomDataset``, with ``row``: the image's place
            in the cache.
        """
        infos = super().load_data_list()
        return [dict(info, row=i) for i, info in enumerate(infos)]

    def full_init(self) -> None:
        """Load the annotations, and decode the images if need be."""
        if self._fully_initialized:
            return
        super().full_init()
        infos = [self.get_data_info(i) for i in range(len(self))]
        folder = self.cache_dir or osp.join(self.img_prefix, '..', '.cache')
        path = osp.join(folder, f'{self._fingerprint(infos)}.npy')
        if is_main_process() and not osp.isfile(path):
            self._decode(infos, path)
        barrier()
        self._images = np.load(path, mmap_mode='r', allow_pickle=False)

    def _fingerprint(self, infos: List[dict]) -> str:
        """Name the cache by the files, their size and date, and the steps."""
        digest = hashlib.sha256(repr(self.pipeline).encode())
        for info in infos:
            stat = os.stat(info['img_path'])
            key = [info['img_path'], stat.st_size, stat.st_mtime_ns]
            digest.update(json.dumps(key).encode())
        return digest.hexdigest()[:16]

    def _decode(self, infos: List[dict], path: str) -> None:
        """Decode all images into one file, which appears when it is whole."""
        print_log(
            f'decoding {len(infos)} images into {path}', logger='current')
        os.makedirs(osp.dirname(path), exist_ok=True)
        partial = f'{path}.{os.getpid()}.part'
        try:
            self._write(infos, partial)
            os.replace(partial, path)
        finally:
            if osp.isfile(partial):
                os.remove(partial)

    def _write(self, infos: List[dict], path: str) -> None:
        images = None
        for i, info in enumerate(infos):
            image = self._decode_one(info)
            if images is None:
                images = np.lib.format.open_memmap(path, 'w+', np.uint8,
                                                   (len(infos), *image.shape))
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f'CachedImageFolder: {info["img_path"]!r} is {image.shape}'
                    f', the images before it {images.shape[1:]}; add '
                    "dict(type='Resize', scale=(W, H)) to the `pipeline` of "
                    'the dataset, or use transmamba_mm.ImageFolderDataset')
            images[i] = image
        images.flush()

    def _decode_one(self, info: dict) -> np.ndarray:
        results = self.pipeline(dict(info))
        if results is None or results['img'].dtype != np.uint8:
            raise ValueError(
                'CachedImageFolder: the `pipeline` of the dataset must turn '
                f'every file into bytes, which fails for {info["img_path"]!r};'
                " use LoadImage without on_broken='skip', and no step that "
                'makes floats')
        return results['img'].transpose(2, 0, 1)

    def get_subset_(self, indices: Union[int, Sequence[int]]) -> None:
        """Keep some images only.

        Args:
            indices (int | Sequence[int]): As ``BaseDataset.get_subset_``.
        """
        super().get_subset_(indices)
        self._rows = self._labels = None

    @force_full_init
    def __getitems__(self, indices: List[int]) -> dict:
        """Return a batch.

        Args:
            indices (List[int]): Indices of the images.

        Returns:
            dict: ``inputs``, bytes (B, C, H, W), and ``data_samples``: for
            training a single one that holds the labels (B,) of the whole
            batch, for tests one an image.
        """
        if self._rows is None:
            infos = [self.get_data_info(i) for i in range(len(self))]
            self._rows = np.array([info['row'] for info in infos])
            self._labels = torch.tensor(
                [info.get('gt_label', -1) for info in infos])
        inputs = torch.from_numpy(self._images[self._rows[indices]])
        labels = self._labels[indices]
        if not self.test_mode:
            samples = [DataSample().set_gt_label(labels)]
        else:
            samples = [DataSample().set_gt_label(x) for x in labels]
        return dict(inputs=inputs, data_samples=samples)

    def __getitem__(self, idx: int) -> dict:
        batch = self.__getitems__([idx])
        return dict(
            inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])
