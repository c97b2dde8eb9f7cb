"""Ranks of text-video retrieval, in memory linear in a chunk size."""
from typing import Callable, Iterator, Optional, Tuple

import torch
from torch import Tensor

# (row numbers (R,), columns (R, K)) -> scores (R, K)
Rerank = Callable[[Tensor, Tensor], Tensor]


def text_to_video_ranks(texts: Tensor,
                        videos: Tensor,
                        owner: Tensor,
                        chunk_size: int = 512,
                        dual_softmax: Optional[float] = None,
                        rerank: Optional[Rerank] = None,
                        topk: int = 0) -> Tensor:
    """Rank the video of each text among all videos.

    Args:
        texts (Tensor): Features (N, D).
        videos (Tensor): Features (V, D).
        owner (Tensor): Video of each text, (N, ).
        chunk_size (int): Texts compared at once. Defaults to 512.
        dual_softmax (float, optional): Multiply the similarities by their
            softmax over the texts, at this scale (CAMoE, arXiv 2109.04290,
            section 3.3). Defaults to None.
        rerank (Callable, optional): Gives better scores of pairs. Defaults to
            None.
        topk (int): Candidates of a text that ``rerank`` judges. Defaults to
            0.

    Returns:
        Tensor: Ranks (N, ), the best is 0; of equal ones the middle.
    """
    ranks = []
    for rows, similarity in _chunks(texts, videos, chunk_size, dual_softmax):
        if rerank is not None and topk:
            similarity = _rerank(rows, similarity, rerank, topk)
        own = similarity.gather(1, owner[rows, None])
        ranks.append(_rank(similarity, own, 1))
    return torch.cat(ranks)


def video_to_text_ranks(texts: Tensor,
                        videos: Tensor,
                        owner: Tensor,
                        chunk_size: int = 512,
                        dual_softmax: Optional[float] = None,
                        rerank: Optional[Rerank] = None,
                        topk: int = 0,
                        among: str = 'videos') -> Tensor:
    """Rank the texts of each video.

    Args:
        texts (Tensor): See :func:`text_to_video_ranks`.
        videos (Tensor): See there.
        owner (Tensor): See there.
        chunk_size (int): Videos compared at once. Defaults to 512.
        dual_softmax (float, optional): See there; the softmax is over the
            videos. Defaults to None.
        rerank (Callable, optional): See there. Defaults to None.
        topk (int): See there. Defaults to 0.
        among (str): 'videos' compares the best caption of each video, as
            CLIP4Clip's code does; 'captions' ranks the best caption of the
            right video among those of the others. Defaults to 'videos'.

    Returns:
        Tensor: Ranks (V, ), the best is 0; of equal ones the middle.
    """
    ranks = []
    for rows, similarity in _chunks(videos, texts, chunk_size, dual_softmax):
        if rerank is not None and topk:
            similarity = _rerank(rows, similarity, rerank, topk)
        mine = owner[None] == rows[:, None]
        own = similarity.masked_fill(~mine, -torch.inf).amax(1, keepdim=True)
        if among == 'videos':
            groups = owner.expand(len(rows), -1)
            similarity = similarity.new_full(
                (len(rows), len(videos)),
                -torch.inf).scatter_reduce(1, groups, similarity, 'amax')
            ranks.append(_rank(similarity, own, 1))
        else:
            # the video's other captions do not compete
            others = similarity.masked_fill(mine, torch.nan)
            ranks.append(_rank(others, own, 0))
    return torch.cat(ranks)


def _chunks(queries: Tensor, gallery: Tensor, chunk_size: int,
            scale: Optional[float]) -> Iterator[Tuple[Tensor, Tensor]]:
    """Give row numbers and similarities, chunk by chunk."""
    total = None
    if scale is not None:
        total = gallery.new_full((len(gallery), ), -torch.inf)
        for chunk in queries.split(chunk_size):
            part = (scale * _similarity(chunk, gallery)).logsumexp(0)
            total = torch.logaddexp(total, part)
    for rows in torch.arange(len(queries)).split(chunk_size):
        similarity = _similarity(queries[rows], gallery)
        if total is not None:
            weight = (scale * similarity - total).exp()
            similarity = (similarity * weight).nan_to_num(nan=-torch.inf)
        yield rows, similarity


def _similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """Compare; what is not finite is worse than anything else."""
    similarity = queries @ gallery.t()
    return similarity.masked_fill_(~similarity.isfinite(), -torch.inf)


def _rerank(rows: Tensor, similarity: Tensor, rerank: Rerank,
            topk: int) -> Tensor:
    """Order the best candidates anew, above all others."""
    best = similarity.topk(min(topk, similarity.shape[1]), dim=1).indices
    scores = rerank(rows, best).to(similarity)
    scores = scores.nan_to_num(nan=-torch.inf, neginf=-1e6, posinf=1e6)
    lift = similarity.amax(1, keepdim=True).nan_to_num(neginf=0) + 1
    lift = lift - scores.amin(1, keepdim=True)
    return similarity.scatter(1, best, scores + lift)


def _rank(similarity: Tensor, own: Tensor, itself: int) -> Tensor:
    better = (similarity > own).sum(1)
    equal = (similarity == own).sum(1) - itself
    return better + equal / 2
