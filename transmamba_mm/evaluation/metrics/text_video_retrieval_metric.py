import logging
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from transmamba_mm.registry import METRICS
from ..retrieval_ranks import text_to_video_ranks, video_to_text_ranks

VIDEO_TO_TEXT = ('videos', 'captions')


@METRICS.register_module()
class TextVideoRetrievalMetric(BaseMetric):
    """Recall and rank of text-video retrieval, in both directions.

    Results are 't2v_R@1' and so on: R@k in percent, MdR and MnR (median and
    mean rank, the best is 1), of texts that look for their video ('t2v') and
    of videos that look for their texts ('v2t'). Each caption is a query of
    its own; the captions of a video share its ``video_id``. 'chance_R@1' is
    what guessing gives. Of equal similarities, the middle rank counts; what
    is not finite ranks last.

    Data samples with a ``gallery`` are compared within their gallery, and
    each result is the mean over the galleries.

    Args:
        topk (Sequence[int]): The k of R@k. Defaults to (1, 5, 10).
        video_to_text (str): 'videos' compares each video's best caption, as
            CLIP4Clip's code does; 'captions' compares with all captions of
            other videos. Defaults to 'videos'.
        dual_softmax (float, optional): Give the results of dual softmax too,
            with this scale of the cosines, such as 100. They are named
            't2v_dual_softmax_R@1' and so on, for they use the other queries
            of the test. Defaults to None.
        rerank_topk (int): Candidates of each query that the model judges
            again. These results are named 't2v_rerank_R@1' and so on. Needs
            ``RetrievalRerankHook``. Defaults to 0.
        chunk_size (int): Queries compared at once: the memory is that of
            ``chunk_size`` rows of the similarity matrix. Defaults to 512.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to 'retrieval'.
        **kwargs: Other arguments of MMEngine's ``BaseMetric``.

    Raises:
        KeyError: A data sample has no features or no ``video_id``.
        ValueError: An argument is not allowed.

    Examples:
        >>> test_evaluator = dict(
        >>>     type='transmamba_mm.TextVideoRetrievalMetric')
    """

    default_prefix = 'retrieval'
    NEEDED = ('video_id', 'video_feat', 'text_feat')
    PAIR_KEYS = ('video_tokens', 'text_state')

    def __init__(self,
                 topk: Sequence[int] = (1, 5, 10),
                 video_to_text: str = 'videos',
                 dual_softmax: Optional[float] = None,
                 rerank_topk: int = 0,
                 chunk_size: int = 512,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None,
                 **kwargs: Any) -> None:
        super().__init__(
            collect_device=collect_device, prefix=prefix, **kwargs)
        if video_to_text not in VIDEO_TO_TEXT:
            raise _bad('video_to_text', video_to_text, VIDEO_TO_TEXT)
        if rerank_topk < 0:
            raise _bad('rerank_topk', rerank_topk, 'at least 0')
        if chunk_size < 1:
            raise _bad('chunk_size', chunk_size, 'at least 1')
        if not topk or min(topk) < 1:
            raise _bad('topk', topk, 'numbers of at least 1')
        if dual_softmax is not None and dual_softmax <= 0:
            raise _bad('dual_softmax', dual_softmax, 'a positive scale')
        self.topk = tuple(topk)
        self.video_to_text = video_to_text
        self.dual_softmax = dual_softmax
        self.rerank_topk = rerank_topk
        self.chunk_size = chunk_size
        # (video_tokens, text_state, text_feat) of pairs -> scores
        self.reranker: Optional[Callable[..., Tensor]] = None
        self._seen: set = set()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``video_id``, ``video_feat``
                (D, ) and ``text_feat`` (D, ); to re-rank also
                ``video_tokens`` and ``text_state``.
        """
        if not self.results:
            self._seen = set()
        needed = self.NEEDED + self.PAIR_KEYS * bool(self.rerank_topk)
        for sample in data_samples:
            absent = [name for name in needed if name not in sample]
            if absent:
                raise KeyError(
                    f'TextVideoRetrievalMetric: data samples have no {absent};'
                    ' the model must be a TextVideoRetrieval, its head one '
                    'that re-ranks if `rerank_topk` is set, and the pipeline '
                    'must end with PackVideoText')
            kept = dict(
                video_id=sample['video_id'],
                gallery=sample.get('gallery', ''),
                unreadable=bool(sample.get('unreadable_videos')))
            key = kept['gallery'], kept['video_id']
            first = key not in self._seen
            self._seen.add(key)
            for name in needed[1:]:
                # the features of a video are needed once
                if first or not name.startswith('video_'):
                    kept[name] = _to_cpu(sample[name])
            self.results.append(kept)

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Compute the results.

        Args:
            results (List[dict]): What :meth:`process` kept, of all processes.

        Returns:
            Dict[str, float]: Results by name.
        """
        self._warn(results)
        galleries: Dict[str, List[dict]] = {}
        for result in results:
            galleries.setdefault(result['gallery'], []).append(result)
        each = [self._compute(gallery) for gallery in galleries.values()]
        if len(each) > 1:
            self._warn_of_sizes(galleries)
            print_log(
                f'{len(each)} galleries, of which the results are the mean',
                logger='current')
        return {
            name: sum(values[name] for values in each) / len(each)
            for name in each[0]
        }

    def _compute(self, results: List[dict]) -> Dict[str, float]:
        """Compute the results of one gallery."""
        firsts: Dict[str, dict] = {}
        for result in results:
            if 'video_feat' in result:
                firsts.setdefault(result['video_id'], result)
        number = {name: index for index, name in enumerate(firsts)}
        owner = torch.tensor([number[r['video_id']] for r in results])
        videos = _stack([r['video_feat'] for r in firsts.values()])
        texts = _stack([r['text_feat'] for r in results])
        forms: Dict[str, dict] = {'': {}}
        if self.dual_softmax is not None:
            forms['dual_softmax_'] = dict(dual_softmax=self.dual_softmax)
        if self.rerank_topk:
            forms['rerank_'] = dict(topk=self.rerank_topk)
        values: Dict[str, float] = {}
        for form, kwargs in forms.items():
            judge = (None, None)
            if form == 'rerank_':
                judge = self._judge(results, list(firsts.values()))
            common = (texts, videos, owner, self.chunk_size)
            t2v = text_to_video_ranks(*common, rerank=judge[0], **kwargs)
            v2t = video_to_text_ranks(
                *common, rerank=judge[1], among=self.video_to_text, **kwargs)
            values.update(self._summarise(f't2v_{form}', t2v))
            values.update(self._summarise(f'v2t_{form}', v2t))
        values['chance_R@1'] = 100 / len(videos)
        return values

    def _judge(self, texts: List[dict],
               videos: List[dict]) -> Tuple[Callable, Callable]:
        """Make the functions that judge pairs, of both directions."""
        if self.reranker is None:
            raise ValueError(
                'TextVideoRetrievalMetric: rerank_topk is set, but nothing '
                "re-ranks; add dict(type='transmamba_mm.RetrievalRerankHook') "
                'to `custom_hooks` or set rerank_topk=0')

        tokens = torch.stack([video['video_tokens'] for video in videos])
        of_text = [
            torch.stack([text[name] for text in texts])
            for name in ('text_state', 'text_feat')
        ]

        def score(text: Tensor, video: Tensor) -> Tensor:
            return torch.cat([
                self.reranker(tokens[column], *(x[row]
                                                for x in of_text)).cpu()
                for row, column in zip(
                    text.split(self.chunk_size), video.split(self.chunk_size))
            ]).float()

        def of_texts(rows: Tensor, columns: Tensor) -> Tensor:
            rows = rows[:, None].expand_as(columns)
            return score(rows.flatten(), columns.flatten()).view_as(columns)

        def of_videos(rows: Tensor, columns: Tensor) -> Tensor:
            rows = rows[:, None].expand_as(columns)
            return score(columns.flatten(), rows.flatten()).view_as(columns)

        return of_texts, of_videos

    def _summarise(self, name: str, ranks: Tensor) -> Dict[str, float]:
        ranks = ranks.double() + 1
        values = {
            f'{name}R@{k}': 100 * (ranks <= k).double().mean().item()
            for k in self.topk
        }
        values[f'{name}MdR'] = ranks.quantile(0.5).item()
        values[f'{name}MnR'] = ranks.mean().item()
        return values

    @staticmethod
    def _warn_of_sizes(galleries: Dict[str, List[dict]]) -> None:
        sizes = [
            len({r['video_id']
                 for r in results}) for results in galleries.values()
        ]
        if min(sizes) != max(sizes):
            _log(f'the galleries hold from {min(sizes)} to {max(sizes)} '
                 'videos: in the mean, a small one counts as much as a large '
                 'one')

    def _warn(self, results: List[dict]) -> None:
        unreadable = {r['video_id'] for r in results if r['unreadable']}
        broken = sum(
            not (r['text_feat'].isfinite().all()
                 and r.get('video_feat', r['text_feat']).isfinite().all())
            for r in results)
        if unreadable:
            _log(f'{len(unreadable)} videos cannot be read and are compared '
                 f'as black clips: {sorted(unreadable)[:5]}')
        if broken:
            _log(f'{broken} samples have features that are not finite; they '
                 'rank last')


def _to_cpu(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.float() if value.is_floating_point() else value


def _stack(features: List[Tensor]) -> Tensor:
    return F.normalize(torch.stack(features).flatten(1), dim=1)


def _log(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


def _bad(name: str, value: Any, allowed: Any) -> ValueError:
    return ValueError(f'TextVideoRetrievalMetric: `{name}` must be {allowed}, '
                      f'got {value!r}; change it in the evaluator')
