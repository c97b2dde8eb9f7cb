import random
from typing import Any, Dict, List, Optional, Set

import torch
from mmengine.dataset.base_dataset import force_full_init
from mmengine.logging import print_log
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import DATASETS
from transmamba_mm.utils.text_batch import group_numbers
from .text_tokens import TextTokens
from .transforms import PackVideoText, TokenizeText
from .video_files import VideoReadError
from .video_text_dataset import VideoTextDataset


@DATASETS.register_module()
class CachedVideoTextDataset(VideoTextDataset):
    """Small clips with captions, read once and given as whole batches.

    For data that fits into memory, where reading and collating cost more than
    the model: all clips are kept as bytes, all captions as tokens, and a batch
    is one indexing. Cut windows on the device, by ``crop_size`` of
    :class:`~transmamba_mm.models.VideoTextDataPreprocessor`. Each process
    holds its own copy.

    Training clips that cannot be read are left out, with a warning that names
    them.

    Args:
        *args: As :class:`VideoTextDataset`.
        **kwargs: As :class:`VideoTextDataset`. The ``pipeline`` must make
            clips of one size, the same at each call, and holds
            :class:`TokenizeText`.

    Raises:
        ValueError: If the clips are of several sizes, or there is no
            ``TokenizeText``.

    Examples:
        >>> train_dataloader = dict(
        ...     num_workers=0,
        ...     collate_fn=dict(type='transmamba_mm.keep_batch'),
        ...     dataset=dict(type='transmamba_mm.CachedVideoTextDataset'))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._clips: Optional[Tensor] = None
        self._rows: Dict[str, int] = {}
        self._texts: Dict[str, tuple] = {}
        self._unreadable: Set[str] = set()
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """Load the annotations and read the clips."""
        if self._fully_initialized:
            return
        super().full_init()
        self._read_texts()
        self._read_clips()

    def _infos(self) -> List[dict]:
        return [self.get_data_info(i) for i in range(len(self))]

    def _read_texts(self) -> None:
        """Tokenise each caption once."""
        steps = [
            step for step in self.pipeline.transforms
            if isinstance(step, TokenizeText)
        ]
        if not steps:
            raise ValueError(
                'CachedVideoTextDataset: the `pipeline` of the dataset in '
                f'`{self._loader}` holds no TokenizeText; add it')
        for info in self._infos():
            for caption in info.get('captions', (info.get('caption'), )):
                if caption not in self._texts:
                    told = steps[0](dict(caption=caption))
                    self._texts[caption] = told['text'], told['caption_cut']
        cut = sum(is_cut for _, is_cut in self._texts.values())
        if cut and not self.test_mode:
            self._warn(f'{cut} captions are longer than `max_length` of '
                       'TokenizeText and were cut')

    def _read_clips(self) -> None:
        """Read each clip once; leave out what cannot be read."""
        infos = self._infos()
        clips: List[Tensor] = []
        for info in infos:
            path = info['video_path']
            if path in self._rows or path in self._unreadable:
                continue
            clip = self._read_clip(info)
            if clip is None:
                continue
            if clips and clip.shape != clips[0].shape:
                raise ValueError(
                    f'CachedVideoTextDataset: {path!r} is '
                    f'{tuple(clip.shape)}, the clips before it '
                    f'{tuple(clips[0].shape)}; add ResizeClip and CropClip to '
                    f'the `pipeline` of the dataset in `{self._loader}`')
            self._rows[path] = len(clips)
            clips.append(clip)
        kept = [
            i for i, x in enumerate(infos) if x['video_path'] in self._rows
        ]
        if not kept:
            raise ValueError(
                f'none of the {len(infos)} videos can be read; check '
                f'`{self._loader}.dataset`')
        if len(kept) < len(infos):
            self._warn(f'{len(self._unreadable)} videos cannot be read and '
                       f'are left out: {sorted(self._unreadable)[:20]}')
            self.get_subset_(kept)
        self._clips = torch.stack(clips)
        print_log(
            f'CachedVideoTextDataset: {len(clips)} clips, '
            f'{self._clips.nbytes / 2**20:.0f} MiB in memory',
            logger='current')

    def _read_clip(self, info: dict) -> Optional[Tensor]:
        """Run the pipeline with middle frames.

        Returns:
            Tensor: The clip; what cannot be read is black in tests, and None
            in training.
        """
        info = dict(info, test_mode=True, blank_unreadable=self.test_mode)
        info.setdefault('caption', info.get('captions', ('', ))[0])
        try:
            packed = self.pipeline(info)
        except VideoReadError:
            self._unreadable.add(info['video_path'])
            return None
        self._unreadable.update(packed['data_samples'].get(
            'unreadable_videos', ()))
        return packed['inputs']

    @force_full_init
    def __getitems__(self, indices: List[int]) -> dict:
        """Return a batch.

        Args:
            indices (List[int]): Indices of the samples.

        Returns:
            dict: ``inputs``, bytes (B, C, T, H, W), and ``data_samples``: for
            training a single one that holds ``text`` and ``groups`` of the
            whole batch, for tests one a clip.
        """
        infos = [self.get_data_info(int(i)) for i in indices]
        for info in infos:
            if 'captions' in info:
                info['caption'] = random.choice(info['captions'])
        inputs = self._clips[[self._rows[i['video_path']] for i in infos]]
        make = self._samples if self.test_mode else self._joined
        return dict(inputs=inputs, data_samples=make(infos))

    def _joined(self, infos: List[dict]) -> List[DataSample]:
        texts = [self._texts[info['caption']][0] for info in infos]
        text = TextTokens({
            name: torch.stack([text[name] for text in texts])
            for name in texts[0]
        })
        groups = [group_numbers(i['video_id'], i['caption']) for i in infos]
        joined = DataSample()
        joined.set_field(text, 'text')
        joined.set_field(torch.tensor(groups), 'groups')
        return [joined]

    def _samples(self, infos: List[dict]) -> List[DataSample]:
        samples = []
        for info in infos:
            text, is_cut = self._texts[info['caption']]
            told = dict(info, text=text, caption_cut=is_cut)
            if info['video_path'] in self._unreadable:
                told['unreadable_videos'] = [info['video_path']]
            samples.append(PackVideoText.sample(told))
        return samples

    def __getitem__(self, idx: int) -> dict:
        batch = self.__getitems__([idx])
        return dict(
            inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])
