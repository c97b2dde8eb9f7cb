from abc import abstractmethod
from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from transmamba_mm.distillation import LayerRecorder
from ..layers.token_layout import TokenLayout


class FrozenTeacher(nn.Module):
    """A model that only shows its features: eval mode, no gradient.

    A hook owns the teacher; the student only borrows it, so that the teacher
    is in no checkpoint, optimizer or moving average. A sub-class builds
    ``model`` and answers the questions below.

    A teacher of images sees a clip frame by frame, and its features are put
    together as those of one clip, the class tokens and logits as the mean
    over the frames (our choice). A teacher of clips sets ``takes_clips`` and
    gives such features itself.

    Args:
        model (nn.Module): The network.
        head_name (str): Path of the module whose output are the logits.
            Defaults to 'head'.
        final_norm_name (str): Path of the norm after the last layer.
            Defaults to 'backbone.ln1'.
        layer_name (str): Path of a layer, with '{}' for its index. Defaults
            to 'backbone.layers.{}'.
    """

    #: Whether the model itself takes clips (B, C, T, H, W).
    takes_clips = False

    def __init__(self,
                 model: nn.Module,
                 head_name: str = 'head',
                 final_norm_name: str = 'backbone.ln1',
                 layer_name: str = 'backbone.layers.{}') -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.head_name = head_name
        self.final_norm_name = final_norm_name
        self.layer_name = layer_name
        self._renormalise: Optional[Tuple[Tensor, Tensor]] = None
        self._flip_channels = False
        self.eval()

    @property
    @abstractmethod
    def embed_dims(self) -> int:
        """int: Width of the features."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """int: Number of transformer layers."""

    @property
    @abstractmethod
    def num_classes(self) -> Optional[int]:
        """int, optional: Number of logits, if there is a head."""

    @abstractmethod
    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """Tell how the tokens after a layer stand for an image.

        Args:
            image_size (Tuple[int, int]): Height and width in pixels.
            layer (int): Layer index. Defaults to -1.

        Returns:
            TokenLayout: Grid, extra tokens and place of the class token.
        """

    @abstractmethod
    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """Return the input normalisation.

        Returns:
            Tuple[Tensor, Tensor, bool]: Mean and std (C, 1, 1) in pixel
            values, and whether BGR images are turned into RGB first.
        """

    def train(self, mode: bool = True) -> 'FrozenTeacher':
        """Stay in eval mode, whatever is asked.

        Args:
            mode (bool): Ignored. Defaults to True.

        Returns:
            FrozenTeacher: self.
        """
        return super().train(False)

    @torch.no_grad()
    def record(self, inputs: Tensor,
               names: Sequence[str]) -> Dict[str, Tensor]:
        """Run the teacher and keep some outputs.

        Args:
            inputs (Tensor): Images (B, C, H, W) or clips (B, C, T, H, W),
                normalised as the student wants them; see
                :meth:`match_inputs`.
            names (Sequence[str]): Module paths in the teacher's model.

        Returns:
            Dict[str, Tensor]: Path to output; tokens stand as
            :meth:`record_layout` says.
        """
        num_frames = None
        if inputs.dim() == 5 and not self.takes_clips:
            num_frames = inputs.shape[2]
            inputs = inputs.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
        with LayerRecorder(self.model, names) as records:
            self.model(self.adapt_inputs(inputs))
        if num_frames is None:
            return dict(records)
        layout = self.token_layout(tuple(inputs.shape[-2:]))
        return {
            name: _join_frames(x, layout, num_frames)
            for name, x in records.items()
        }

    def record_layout(self,
                      input_size: Tuple[int, ...],
                      layer: int = -1) -> TokenLayout:
        """Tell how the recorded tokens stand for an image or a clip.

        Args:
            input_size (Tuple[int, ...]): Height and width in pixels; before
                them the number of frames, for a clip.
            layer (int): Layer index. Defaults to -1.

        Returns:
            TokenLayout: As :meth:`token_layout`; of a clip that was seen
            frame by frame, with its frames and at most one class token.
        """
        if len(input_size) == 2 or self.takes_clips:
            return self.token_layout(input_size, layer)
        layout = self.token_layout(input_size[1:], layer)
        has_cls = layout.cls_index is not None
        return replace(
            layout,
            num_extra_tokens=int(has_cls),
            cls_index=0 if has_cls else None,
            frames=input_size[0])

    def match_inputs(self, mean: Tensor, std: Tensor, to_rgb: bool) -> None:
        """Prepare for images that are normalised another way.

        Args:
            mean (Tensor): The student's mean (C, 1, 1), in pixel values.
            std (Tensor): The student's standard deviation (C, 1, 1).
            to_rgb (bool): Whether the student turns BGR into RGB.
        """
        own_mean, own_std, own_rgb = self.normalisation()
        self._flip_channels = own_rgb != to_rgb
        mean, std = mean.to(own_mean), std.to(own_std)
        if self._flip_channels:
            mean, std = mean.flip(0), std.flip(0)
        scale, shift = std / own_std, (mean - own_mean) / own_std
        same = torch.allclose(scale, torch.ones_like(scale)) and \
            torch.allclose(shift, torch.zeros_like(shift), atol=1e-6)
        self._renormalise = None if same else (scale, shift)
        if not same or self._flip_channels:
            print_log(
                'Student and teacher normalise images differently: the '
                "student's are re-normalised for the teacher (scale "
                f'{scale.flatten().tolist()}, shift '
                f'{shift.flatten().tolist()}, channels '
                f'{"flipped" if self._flip_channels else "kept"}).',
                logger='current')

    def adapt_inputs(self, inputs: Tensor) -> Tensor:
        """Re-normalise the student's images for the teacher.

        Args:
            inputs (Tensor): Images (B, C, H, W) or clips (B, C, T, H, W).

        Returns:
            Tensor: Of the same shape.
        """
        if self._flip_channels:
            inputs = inputs.flip(1)
        if self._renormalise is not None:
            channels = (-1, *[1] * (inputs.dim() - 2))
            scale, shift = (
                t.to(inputs).reshape(channels) for t in self._renormalise)
            inputs = inputs * scale + shift
        return inputs


def _join_frames(x: Tensor, layout: TokenLayout, num_frames: int) -> Tensor:
    """Put frames together: tokens (B T, L, C), or one vector a frame."""
    x = x.unflatten(0, (-1, num_frames))
    if x.dim() == 3:
        return x.mean(dim=1)
    patches, cls_token = layout.split(x)  # (B, T, L', C), (B, T, 1, C)
    patches = patches.flatten(1, 2)
    if cls_token is None:
        return patches
    return torch.cat([cls_token.mean(dim=1), patches], dim=1)
