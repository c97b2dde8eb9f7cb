import logging
import os.path as osp
import random
from collections import Counter
from typing import Any, Dict, List, Tuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from transmamba_mm.registry import DATASETS
from .video_annotations import READERS, join
from .video_files import VideoReadError, index_clips

CAPTIONS = ('each', 'random', 'paragraph')


@DATASETS.register_module()
class VideoTextDataset(BaseDataset):
    """Videos with captions, for text-video retrieval.

    The videos of ``data_prefix['video']`` are found by name, with or without
    extension; a video may be a file, a folder of frames or an ``.npy`` array
    (T, H, W, 3). A sample has ``video_id``, ``video_path`` and ``caption``.

    A training video that cannot be decoded is replaced by a random one; in
    test mode ``LoadVideo`` makes it black. Both are told in
    ``unreadable_videos``, which ``VideoReportHook`` counts.

    Args:
        ann_file (str): Annotations. Defaults to ''.
        data_format (str): Defaults to 'table'.

            - 'table': csv, json lines or a json list with ``video`` and
              ``caption``.
            - 'msrvtt': the json, with ``split`` or the csv of a split (9k,
              7k, 1k-A) as ``split_file``.
            - 'msvd': the descriptions, with a list of names as
              ``split_file``.
            - 'didemo': a json of sentences; those of a video are joined.
        split_file (str): Which videos to take. Defaults to '', all.
        split (str): Name of a split that the annotations have themselves.
            Defaults to ''.
        captions (str): A video with several captions gives 'each' as a
            sample, one at 'random' each time, or all joined as a
            'paragraph'. Defaults to 'each'.
        fraction (float): Part of the videos to keep, chosen by ``seed``
            alone; smaller parts are within larger ones. Defaults to 1.
        seed (int): Seed of that choice. Defaults to 0.
        allow_missing (bool): Leave videos out whose files are missing, with
            a warning, instead of an error. Defaults to False.
        data_root (str): Root of relative paths. Defaults to ''.
        data_prefix (dict): Folder of the videos. Defaults to
            ``dict(video='')``.
        test_mode (bool): Middle frames, and no video is replaced. Defaults to
            False.
        max_refetch (int): How many unreadable videos in a row stop the
            training. Defaults to 50.
        **kwargs: Other arguments of MMEngine's ``BaseDataset``.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: An argument or a file is wrong.
    """

    def __init__(self,
                 ann_file: str = '',
                 data_format: str = 'table',
                 split_file: str = '',
                 split: str = '',
                 captions: str = 'each',
                 fraction: float = 1.0,
                 seed: int = 0,
                 allow_missing: bool = False,
                 data_root: str = '',
                 data_prefix: dict = dict(video=''),
                 test_mode: bool = False,
                 max_refetch: int = 50,
                 **kwargs: Any) -> None:
        _check('data_format', data_format, tuple(READERS))
        _check('captions', captions, CAPTIONS)
        if not 0 < fraction <= 1:
            raise ValueError(
                f'VideoTextDataset: `fraction` must be in (0, 1], got '
                f'{fraction!r}; change it in the dataset')
        self.data_format = data_format
        self.split_file = split_file
        self.split = split
        self.captions = captions
        self.fraction = fraction
        self.seed = seed
        self.allow_missing = allow_missing
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            test_mode=test_mode,
            max_refetch=max_refetch,
            **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.split_file and not osp.isabs(self.split_file):
            self.split_file = osp.join(self.data_root or '', self.split_file)

    def load_data_list(self) -> List[dict]:
        """Read the annotations and find the videos.

        Returns:
            List[dict]: Samples.
        """
        captions, galleries = self._read_captions()
        captions = self._clean(captions)
        paths = self._find_videos(list(captions))
        captions = {name: captions[name] for name in paths}
        if self.captions == 'paragraph':
            captions = {name: [join(t)] for name, t in captions.items()}
        samples = []
        for name in self._keep_fraction(list(captions)):
            info = dict(video_id=name, video_path=paths[name])
            if name in galleries:
                info['gallery'] = galleries[name]
            texts = captions[name]
            if self.captions == 'random':
                samples.append(dict(info, captions=texts))
            else:
                samples += [dict(info, caption=text) for text in texts]
        return samples

    def _read_captions(self) -> Tuple[Dict[str, List[str]], Dict[str, str]]:
        for key in ('ann_file', 'split_file'):
            path = getattr(self, key)
            if path and not osp.isfile(path):
                raise FileNotFoundError(
                    f'the file {path!r} does not exist; check `{key}` and '
                    f'`data_root` of the dataset in `{self._loader}`')
        read = READERS[self.data_format](self.ann_file, self.split_file,
                                         self.split)
        return read if isinstance(read, tuple) else (read, {})

    @property
    def _loader(self) -> str:
        return ('val_dataloader` or `test_dataloader'
                if self.test_mode else 'train_dataloader')

    def _clean(self, captions: Dict[str, List[str]]) -> Dict[str, List[str]]:
        """Leave out captions that are missing or given twice."""
        counts = Counter()
        cleaned: Dict[str, List[str]] = {}
        for name, texts in captions.items():
            texts = [str(text or '').strip() for text in texts]
            given = [text for text in texts if text]
            counts['missing captions'] += len(texts) - len(given)
            kept = list(dict.fromkeys(given))
            counts['captions that a video has twice'] += len(given) - len(kept)
            counts['videos without any caption'] += not kept
            if kept:
                cleaned[name] = kept
        told = [f'{count} {what}' for what, count in counts.items() if count]
        if told:
            self._warn(f'left out: {", ".join(told)}')
        if not cleaned:
            raise ValueError(
                f'no captions in {self.ann_file or self.split_file!r}; check '
                f'`ann_file` of the dataset in `{self._loader}`')
        return cleaned

    def _find_videos(self, names: List[str]) -> Dict[str, str]:
        """Find the file or folder of each video."""
        folder = self.data_prefix.get('video', '') or self.data_root or '.'
        if not osp.isdir(folder):
            raise FileNotFoundError(
                f'the video folder {folder!r} does not exist; check '
                f'`data_prefix` of the dataset in `{self._loader}`')
        clips = index_clips(folder)
        paths, missing, several = {}, [], []
        for name in names:
            found = clips.get(name) or clips.get(osp.splitext(name)[0], [])
            if len(found) == 1:
                paths[name] = found[0]
            else:
                (several if found else missing).append(name)
        if several:
            raise ValueError(
                f'{len(several)} videos have more than one file in '
                f'{folder!r}: {several[:5]}; give the extension in the '
                'annotations or delete one file')
        if missing:
            message = (f'{len(missing)} of {len(names)} videos are not in '
                       f'{folder!r}: {missing[:5]}')
            if not paths or not self.allow_missing:
                raise FileNotFoundError(
                    f'{message}; check `data_prefix` of the dataset in '
                    f'`{self._loader}`, or set `allow_missing=True` there to '
                    'go on without them')
            self._warn(f'{message}; left out')
        return paths

    def _keep_fraction(self, names: List[str]) -> List[str]:
        if self.fraction == 1:
            return names
        order = np.random.RandomState(self.seed).permutation(len(names))
        count = max(1, round(self.fraction * len(names)))
        return [names[index] for index in np.sort(order[:count])]

    def _warn(self, message: str) -> None:
        print_log(
            f'VideoTextDataset: {message} '
            f'(of {self.ann_file or self.split_file!r})',
            logger='current',
            level=logging.WARNING)

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a sample.

        Args:
            idx (int): Index of the sample.

        Returns:
            Any: Result of the pipeline.
        """
        info = self.get_data_info(idx)
        info.update(test_mode=self.test_mode, blank_unreadable=self.test_mode)
        if 'captions' in info:
            info['caption'] = random.choice(info.pop('captions'))
        return self.pipeline(info)

    def __getitem__(self, idx: int) -> Any:
        if self.test_mode:
            return super().__getitem__(idx)
        unreadable: List[str] = []
        for _ in range(self.max_refetch + 1):
            try:
                data = super().__getitem__(idx)
            except VideoReadError as error:
                unreadable.append(self.get_data_info(idx)['video_path'])
                idx, last = self._rand_another(), error
                continue
            if unreadable and isinstance(data, dict):
                data['data_samples'].set_metainfo(
                    dict(unreadable_videos=unreadable))
            return data
        raise ValueError(
            f'{len(unreadable)} videos in a row cannot be read, check '
            f'`train_dataloader.dataset`; the last: {last}') from last


def _check(name: str, value: Any, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f'VideoTextDataset: `{name}` must be one of '
                         f'{allowed}, got {value!r}; change it in the dataset')
