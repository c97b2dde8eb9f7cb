import math
from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..losses.info_nce import cosines, info_nce
from ..multimodal.base_text_tower import TextFeatures
from ..multimodal.gather import gather, joint_value, own_rows


@MODELS.register_module()
class MeanPoolHead(BaseModule):
    """Compare videos and texts by the mean of the frames' features.

    The frames are projected to the width of the texts, and made unit vectors
    before and after the mean, as in `CLIP4Clip
    <https://arxiv.org/abs/2104.08860>`_. The loss is symmetric InfoNCE over
    the batches of all processes, with CLIP's learned temperature. A frame is
    the mean of its patch tokens (our choice).

    Args:
        video_dims (int): Width C of the video's tokens.
        embed_dims (int): Width D of the pooled texts.
        token_dims (int): Width of the text's tokens, which only some heads
            use.
        with_projection (bool): Whether the frames are projected; without,
            ``video_dims`` must be ``embed_dims``. Defaults to True.
        init_scale (float): First factor on the cosines. Defaults to 1 / 0.07.
        max_scale (float): Largest factor. Defaults to 100.
        ignore_same (bool): Whether a pair of other samples that share the
            video, or have the same caption, counts neither as right nor as
            wrong (our choice). Defaults to True.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If the factors or the widths do not make sense.
    """

    #: Whether :meth:`rerank` judges pairs better than the features do.
    reranks = False

    def __init__(self,
                 video_dims: int,
                 embed_dims: int,
                 token_dims: int,
                 with_projection: bool = True,
                 init_scale: float = 1 / 0.07,
                 max_scale: float = 100.,
                 ignore_same: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if not 0 < init_scale <= max_scale:
            raise ValueError(
                f'model.head has init_scale={init_scale} and max_scale='
                f'{max_scale}: the first must be positive and not above the '
                'second.')
        self.embed_dims = embed_dims
        self.ignore_same = ignore_same
        self.max_log_scale = math.log(max_scale)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.video_proj = nn.Identity()
        if with_projection:
            self.video_proj = nn.Linear(video_dims, embed_dims, bias=False)
        elif video_dims != embed_dims:
            raise ValueError(
                f'model.head.with_projection=False, but videos have the width '
                f'{video_dims} and texts {embed_dims}; leave it out.')

    def init_weights(self) -> None:
        """Initialise; the projection is normal, as CLIP's."""
        super().init_weights()
        if isinstance(self.video_proj, nn.Linear):
            nn.init.normal_(
                self.video_proj.weight, std=self.video_proj.in_features**-0.5)

    def forward(self, patches: Tensor,
                text: TextFeatures) -> Tuple[Tensor, Tensor]:
        """Compute the features that are compared.

        Args:
            patches (Tensor): Video tokens (B, T, P, C), P patches a frame.
            text (TextFeatures): The texts.

        Returns:
            Tuple[Tensor, Tensor]: Unit vectors (B, D) of the videos and of
            the texts.
        """
        return self.encode_video(patches), self.encode_text(text)

    def encode_video(self, patches: Tensor) -> Tensor:
        """Compute the features of videos.

        Args:
            patches (Tensor): Video tokens (B, T, P, C).

        Returns:
            Tensor: Unit vectors (B, D).
        """
        return self.pool(self.video_proj(patches.mean(dim=2)))

    def encode_text(self, text: TextFeatures) -> Tensor:
        """Compute the features of texts.

        Args:
            text (TextFeatures): The texts.

        Returns:
            Tensor: Unit vectors (B, D).
        """
        return F.normalize(text.pooled.float(), dim=-1)

    def pool(self, frames: Tensor) -> Tensor:
        """Make one unit vector of the frames of a video.

        Args:
            frames (Tensor): Projected frames (B, T, D).

        Returns:
            Tensor: Shape (B, D).
        """
        frames = F.normalize(frames.float(), dim=-1)
        return F.normalize(frames.mean(dim=1), dim=-1)

    def scale(self) -> Tensor:
        """Return the factor on the cosines; its parameter is clamped.

        Returns:
            Tensor: Scalar.
        """
        with torch.no_grad():
            self.logit_scale.clamp_(max=self.max_log_scale)
        return self.logit_scale.exp()

    def loss(self, video: Tensor, texts: Tensor, patches: Tensor,
             text: TextFeatures, groups: Tensor) -> Dict[str, Tensor]:
        """Compute the loss.

        Args:
            video (Tensor): Unit vectors (B, D), from :meth:`forward`.
            texts (Tensor): Unit vectors (B, D), from :meth:`forward`.
            patches (Tensor): Video tokens (B, T, P, C).
            text (TextFeatures): The texts.
            groups (Tensor): Numbers of the video and of the caption of each
                sample, (B, 2); samples with a number in common are alike.

        Returns:
            Dict[str, Tensor]: ``loss``, and values for the log.
        """
        rows = own_rows(len(video), video.device)
        ignored = self._ignored(groups, rows)
        scale = self.scale()
        loss = sum(
            info_nce(scale * cosines(own, gather(other)), rows, ignored)
            for own, other in ((video, texts), (texts, video))) / 2
        loss = joint_value(loss)
        return dict(loss=loss, logit_scale=scale.detach())

    def _ignored(self, groups: Tensor, rows: Tensor) -> Tensor:
        """Tell which pairs are alike, but no pair: (B, N)."""
        everyone = gather(groups)
        alike = (groups[:, None] == everyone[None]).any(dim=-1)
        return alike & self.ignore_same & ~is_own(rows, len(everyone))


def is_own(rows: Tensor, count: int) -> Tensor:
    """Mark the right candidate of each query.

    Args:
        rows (Tensor): Its index, (B,).
        count (int): Candidates N.

    Returns:
        Tensor: Bool (B, N).
    """
    return rows[:, None] == torch.arange(count, device=rows.device)
