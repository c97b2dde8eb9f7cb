import logging
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from transmamba_mm.datasets.video_files import (VideoReadError, index_clips,
                                                read_frames)
from transmamba_mm.utils.atomic_io import atomic_write
from .contact_sheet import draw_sheet


class TextVideoRetriever:
    """Text in, ranked videos out.

    The videos are read once, when they are added; then a search costs the
    text alone, and for a model that re-ranks its best candidates.

    Args:
        config (str | Config): Config of a text-video retrieval, or its path.
        checkpoint (str, optional): Trained weights. None keeps what the model
            is built with. Defaults to None.
        videos (str | Sequence[str], optional): See :meth:`add`. Defaults to
            None.
        device (str, optional): None takes the GPU if there is one. Defaults
            to None.
        batch_size (int): Videos encoded at once. Defaults to 8.

    Raises:
        ValueError: If the config is of another kind of model.

    Examples:
        >>> retriever = TextVideoRetriever('config.py', 'epoch_60.pth',
        ...                                'data/clips')
        >>> found = retriever('a dog moving left slowly')[0]
        >>> found[0]['video_id'], found[0]['score']
        >>> retriever.save_sheet(['a dog moving left slowly'], 'sheet.png')
    """

    def __init__(self,
                 config: Union[str, Config],
                 checkpoint: Optional[str] = None,
                 videos: Union[str, Sequence[str], None] = None,
                 device: Optional[str] = None,
                 batch_size: int = 8) -> None:
        cfg = Config.fromfile(config) if isinstance(config, str) else config
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.model = _build_model(cfg, checkpoint).to(self.device)
        self._read, self._tokenize = _split_pipeline(cfg)
        self.video_ids: List[str] = []
        self.paths: List[str] = []
        self.features = torch.zeros(0, self.model.head.embed_dims)
        self._tokens: List[Tensor] = []
        if videos is not None:
            self.add(videos)

    @torch.no_grad()
    def add(self, videos: Union[str, Sequence[str]]) -> 'TextVideoRetriever':
        """Add videos to the gallery.

        Args:
            videos (str | Sequence[str]): A folder of videos, or paths of
                video files, folders of frames or arrays. Those that cannot be
                read are left out, with a warning.

        Returns:
            TextVideoRetriever: self.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If no video can be read.
        """
        found = _list_videos(videos)
        broken, clips, kept = [], [], []
        features = [self.features]
        for name, path in found:
            try:
                clips.append(self._read(dict(video_path=path))['inputs'])
                kept.append((name, path))
            except VideoReadError as error:
                broken.append(str(error))
            if len(clips) == self.batch_size:
                features.append(self._encode(clips))
                clips = []
        if broken:
            print_log(
                f'{len(broken)} of {len(found)} videos are left out: '
                f'{broken[:5]}',
                logger='current',
                level=logging.WARNING)
        if not kept:
            raise ValueError(f'None of the {len(found)} videos of {videos!r} '
                             'can be read; give others as `videos`.')
        if clips:
            features.append(self._encode(clips))
        self.features = torch.cat(features)
        self.video_ids += [name for name, _ in kept]
        self.paths += [path for _, path in kept]
        return self

    def _encode(self, clips: List[Tensor]) -> Tensor:
        """Encode videos; keep their tokens if the head re-ranks."""
        head = self.model.head
        batch = self.model.data_preprocessor(dict(inputs=clips), False)
        patches = self.model.video_tokens(batch['inputs'])
        if head.reranks:
            self._tokens += list(head.visual_tokens(patches).cpu())
        return head.encode_video(patches).cpu()

    @torch.no_grad()
    def __call__(self,
                 texts: Union[str, Sequence[str]],
                 topk: int = 5,
                 rerank_topk: int = 16) -> List[List[Dict[str, Any]]]:
        """Search.

        Args:
            texts (str | Sequence[str]): What to look for.
            topk (int): Videos of a text to return. Defaults to 5.
            rerank_topk (int): Candidates that a model with
                :class:`~transmamba_mm.models.CrossMambaHead` judges again; 0
                takes its first judgement. Defaults to 16.

        Returns:
            List[List[dict]]: For each text the best videos, the best first:
            ``video_id``, ``video_path`` and ``score``, a cosine.

        Raises:
            ValueError: If there is no video, or no text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not self.video_ids:
            raise ValueError('There are no videos to search; give `videos`, '
                             'or call add().')
        if not texts or topk < 1:
            raise ValueError(f'{len(texts)} texts and topk={topk}: at least '
                             'one of each is needed.')
        states, features = self._encode_texts(texts)
        similarity = features @ self.features.t()
        results = []
        for i, row in enumerate(similarity):
            if self.model.head.reranks and rerank_topk:
                row = self._rerank(row, rerank_topk, states[i], features[i])
            scores, found = row.topk(min(topk, len(row)))
            results.append([
                dict(
                    video_id=self.video_ids[j],
                    video_path=self.paths[j],
                    score=score)
                for j, score in zip(found.tolist(), scores.tolist())
            ])
        return results

    def _encode_texts(self,
                      texts: List[str]) -> Tuple[Optional[Tensor], Tensor]:
        """Return states, if the head re-ranks, and unit vectors (N, D)."""
        samples = []
        for caption in texts:
            sample = DataSample()
            text = self._tokenize(dict(caption=caption))['text']
            samples.append(sample.set_field(text, 'text') or sample)
        text, head = self.model.text_features(samples), self.model.head
        states = head.text_states(text) if head.reranks else None
        return states, head.encode_text(text).cpu()

    def _rerank(self, row: Tensor, count: int, state: Tensor,
                feature: Tensor) -> Tensor:
        """Judge the best candidates again; the others stay behind them."""
        found = row.topk(min(count, len(row))).indices
        n = len(found)
        scores = self.model.head.score(
            torch.stack([self._tokens[j] for j in found]).to(self.device),
            state.expand(n, *state.shape),
            feature.to(self.device).expand(n, -1)).cpu()
        out = torch.full_like(row, -torch.inf)
        out[found] = scores
        if n < len(row):
            rest = torch.ones_like(row, dtype=torch.bool)
            rest[found] = False
            # below the judged ones, in the old order
            gap = row[rest].max() - scores.min()
            out[rest] = row[rest] - gap.clamp(min=0) - 1e-6
        return out

    def save_sheet(self,
                   texts: Union[str, Sequence[str]],
                   path: str,
                   topk: int = 5,
                   num_frames: int = 3,
                   rerank_topk: int = 16) -> List[List[Dict[str, Any]]]:
        """Search, and save a picture of what was found, one row a text.

        Args:
            texts (str | Sequence[str]): What to look for.
            path (str): PNG file to write.
            topk (int): Videos of a text. Defaults to 5.
            num_frames (int): Frames shown of a video. Defaults to 3.
            rerank_topk (int): See :meth:`__call__`. Defaults to 16.

        Returns:
            List[List[dict]]: As :meth:`__call__`.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        results = self(texts, topk, rerank_topk)

        def choose(total: int) -> np.ndarray:
            return np.linspace(0, total - 1, num_frames).round().astype(int)

        captions = [[f'{f["video_id"]}  {f["score"]:.3f}' for f in row]
                    for row in results]
        clips = [[read_frames(f['video_path'], choose) for f in row]
                 for row in results]
        atomic_write(path, draw_sheet(texts, captions, clips))
        return results


def _build_model(cfg: Config, checkpoint: Optional[str]) -> nn.Module:
    """Build the model, in eval mode."""
    model_cfg = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_cfg)
    if not hasattr(model, 'video_tokens'):
        raise ValueError(
            f'The config builds a {type(model).__name__}; give one whose '
            "model.type is 'transmamba_mm.TextVideoRetrieval'.")
    if checkpoint is not None:
        load_checkpoint(model, checkpoint, map_location='cpu')
    return model.eval()


def _split_pipeline(cfg: Config) -> Tuple[Compose, Any]:
    """Return what reads videos, and what reads texts."""
    steps = cfg.test_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        texts = [s for s in steps if s['type'].endswith('TokenizeText')]
        if len(texts) != 1:
            raise ValueError(f'test_dataloader.dataset.pipeline has '
                             f'{len(texts)} steps TokenizeText, not one.')
        return Compose([TRANSFORMS.build(s) for s in steps
                        if s not in texts]), TRANSFORMS.build(texts[0])


def _list_videos(videos: Union[str, Sequence[str]]) -> List[Tuple[str, str]]:
    """Return names and paths of videos."""
    if not isinstance(videos, str):
        return [(osp.splitext(osp.basename(p))[0], p) for p in videos]
    if not osp.isdir(videos):
        raise FileNotFoundError(f"There is no folder '{videos}'; give another "
                                'one as `videos`, or a list of paths.')
    paths = sorted(
        {p
         for found in index_clips(videos).values()
         for p in found})
    if not paths:
        raise FileNotFoundError(f"The folder '{videos}' holds no videos.")
    return [(osp.splitext(osp.relpath(p, videos))[0], p) for p in paths]
