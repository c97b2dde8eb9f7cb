from typing import Dict, Tuple

import torch
from torch import Tensor

from transmamba_mm.registry import MODELS
from ..losses.info_nce import cosines, info_nce
from ..multimodal.base_text_tower import TextFeatures
from ..multimodal.gather import gather, joint_value, own_rows
from .mean_pool_head import MeanPoolHead, is_own


@MODELS.register_module()
class CrossMambaHead(MeanPoolHead):
    """Judge close candidates again, with video tokens that know the text.

    All pairs are compared as by :class:`MeanPoolHead`, which is linear in the
    gallery; only the best candidates of each query are judged again. For
    these, :class:`~transmamba_mm.models.CrossMambaFusion` lets the video
    tokens read the text before they are pooled. A new fusion changes nothing,
    so that the second judgement starts as the first (our choices).

    In training each video and each text is told from its hardest candidates
    in the joined batch; this loss is added to that of the features.

    Args:
        video_dims (int): Width C of the video's tokens.
        embed_dims (int): Width D of the pooled texts.
        token_dims (int): Width of the text's tokens.
        fusion (dict): Further arguments of ``CrossMambaFusion``. Defaults to
            none.
        visual (str): Video tokens that are fused:

            - 'frames': the mean of each frame, which is cheap.
            - 'patches': all patches.

            Defaults to 'frames'.
        num_candidates (int): Candidates of a query in training, with the
            right one. Defaults to 16.
        rerank_weight (float): Weight of the second loss. Defaults to 1.
        **kwargs: As :class:`MeanPoolHead`.

    Raises:
        ValueError: If a value is out of range.
    """

    reranks = True

    def __init__(self,
                 video_dims: int,
                 embed_dims: int,
                 token_dims: int,
                 fusion: dict = dict(),
                 visual: str = 'frames',
                 num_candidates: int = 16,
                 rerank_weight: float = 1.,
                 **kwargs) -> None:
        super().__init__(video_dims, embed_dims, token_dims, **kwargs)
        if visual not in ('frames', 'patches'):
            raise ValueError(f"model.head.visual='{visual}' is unknown; use "
                             "'frames' or 'patches'.")
        if num_candidates < 2:
            raise ValueError(f'model.head.num_candidates={num_candidates}, '
                             'but it must be at least 2.')
        self.visual = visual
        self.num_candidates = num_candidates
        self.rerank_weight = rerank_weight
        self.fusion = MODELS.build(
            dict(
                type='transmamba_mm.CrossMambaFusion',
                visual_dims=video_dims,
                text_dims=token_dims,
                **fusion))

    def visual_tokens(self, patches: Tensor) -> Tensor:
        """Choose the video tokens that are fused.

        Args:
            patches (Tensor): Video tokens (B, T, P, C).

        Returns:
            Tensor: Shape (B, T, P', C), P' of 1 for 'frames'.
        """
        if self.visual == 'patches':
            return patches
        return patches.mean(dim=2, keepdim=True)

    def text_states(self, text: TextFeatures) -> Tensor:
        """Scan texts, each once, however many videos read it.

        Args:
            text (TextFeatures): The texts.

        Returns:
            Tensor: States (B, layers, N, E), see ``CrossMambaFusion.write``.
        """
        return self.fusion.write(text.tokens, text.mask)

    def score(self, visual: Tensor, states: Tensor, texts: Tensor) -> Tensor:
        """Judge pairs.

        Args:
            visual (Tensor): Video tokens (N, T, P', C).
            states (Tensor): States of the texts (N, layers, N', E), from
                :meth:`text_states`.
            texts (Tensor): Unit vectors (N, D) of the texts.

        Returns:
            Tensor: Cosines (N,).
        """
        shape = visual.shape[1:3]
        fused = self.fusion.read(visual.flatten(1, 2), states)
        video = self.encode_video(fused.unflatten(1, shape))
        return (video * texts).sum(dim=-1)

    def loss(self, video: Tensor, texts: Tensor, patches: Tensor,
             text: TextFeatures, groups: Tensor) -> Dict[str, Tensor]:
        """See :meth:`MeanPoolHead.loss`; adds the second judgement's."""
        losses = super().loss(video, texts, patches, text, groups)
        rows = own_rows(len(video), video.device)
        ignored = self._ignored(groups, rows)
        visual = self.visual_tokens(patches)
        own = (visual, self.text_states(text), texts)
        everyone = tuple(gather(x) for x in own)
        with torch.no_grad():
            of_videos = self._hardest(
                cosines(video, everyone[2]), rows, ignored)
            of_texts = self._hardest(
                cosines(texts, gather(video)), rows, ignored)
        seconds = []
        for is_video, (found, wrong) in enumerate((of_texts, of_videos)):
            count, flat = found.shape[1], found.flatten()
            mine = [x.repeat_interleave(count, 0) for x in own]
            others = [x[flat] for x in everyone]
            pairs = (mine[:1] + others[1:]) if is_video else (others[:1] +
                                                              mine[1:])
            scores = self.score(*pairs).unflatten(0, found.shape)
            first = torch.zeros_like(found[:, 0])
            seconds.append(info_nce(self.scale() * scores, first, wrong))
        second = joint_value(sum(seconds) / 2)
        first = losses['loss']
        losses['loss'] = first + self.rerank_weight * second
        losses.update(nce=first.detach(), rerank=second.detach())
        return losses

    def _hardest(self, similarity: Tensor, rows: Tensor,
                 ignored: Tensor) -> Tuple[Tensor, Tensor]:
        """Choose candidates, the right one first: two of (B, K)."""
        own = is_own(rows, similarity.shape[1])
        similarity = similarity.masked_fill(ignored, -torch.inf)
        similarity = similarity.masked_fill(own, torch.inf)
        count = min(self.num_candidates, similarity.shape[1])
        found = similarity.topk(count, dim=1).indices
        return found, ignored.gather(1, found)
