import logging
from typing import Any, Dict, Optional, Set

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from transmamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image, and name the file if it cannot be read.

    It is MMCV's ``LoadImageFromFile`` with clear errors: that one stops with
    whatever the decoder says, often without the file's name.

    Args:
        on_broken (str): What to do about a file that is missing, empty or
            cannot be decoded. Defaults to 'error'.

            - 'error': stop, naming the file.
            - 'skip': log the file once and train on another image, drawn at
              random, in its place. Not for evaluation, which would give
              figures for another set of images: MMEngine stops there.
        cache (bool): Keep the decoded images in memory, in each worker, for
            small images or data sets with many samples an image. Defaults to
            False.
        **kwargs: Other arguments of ``LoadImageFromFile``.

    Raises:
        ValueError: ``on_broken`` is unknown; during loading, the file is
            broken.
    """

    ON_BROKEN = ('error', 'skip')

    def __init__(self,
                 on_broken: str = 'error',
                 cache: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if on_broken not in self.ON_BROKEN:
            raise ValueError(
                f'LoadImage: on_broken must be one of {self.ON_BROKEN}, got '
                f'{on_broken!r}; change it in the `pipeline` of the dataset')
        self.on_broken = on_broken
        self.cache = cache
        self._images: Dict[str, np.ndarray] = {}
        self._reported: Set[str] = set()

    def transform(self, results: dict) -> Optional[dict]:
        """Load the image of a sample.

        Args:
            results (dict): Holds ``img_path``; or ``img`` alone, which
                MMPretrain's inferencers load by themselves and which stays
                as it is.

        Returns:
            Optional[dict]: The sample with ``img``, ``img_shape`` and
            ``ori_shape``, or None if a broken file is skipped.
        """
        if 'img' in results and 'img_path' not in results:
            return results
        if self.cache:
            return self._recall(results)
        return self._load(results)

    def _recall(self, results: dict) -> Optional[dict]:
        """Load an image once."""
        path = results['img_path']
        if path not in self._images:
            loaded = self._load(results)
            if loaded is None:
                return None
            self._images[path] = loaded['img']
            self._images[path].setflags(write=False)
        image = self._images[path]
        shape = image.shape[:2]
        return dict(results, img=image, img_shape=shape, ori_shape=shape)

    def _load(self, results: dict) -> Optional[dict]:
        try:
            return super().transform(results)
        # Each decoding back end has exceptions of its own.
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            message = (f'the image {results["img_path"]!r} cannot be read '
                       f'({reason})')
            if self.on_broken == 'error':
                raise ValueError(
                    f'{message}. Repair or delete the file under the '
                    '`data_root` of the dataset, or set on_broken=\'skip\' in '
                    'the LoadImage step of `train_dataloader.dataset.'
                    'pipeline` to train without it. Nothing is lost: go on '
                    'from the last checkpoint with --resume') from error
        if results['img_path'] not in self._reported:
            self._reported.add(results['img_path'])
            print_log(
                f'{message}; another image takes its place',
                logger='current',
                level=logging.WARNING)
        return None

    def __repr__(self) -> str:
        return (f'{super().__repr__()[:-1]}, on_broken={self.on_broken!r}, '
                f'cache={self.cache})')
