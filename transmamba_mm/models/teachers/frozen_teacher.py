from abc import abstractmethod
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

    Args:
        model (nn.Module): The network.
        head_name (str): Path of the module whose output are the logits.
            Defaults to 'head'.
        final_norm_name (str): Path of the norm after the last layer.
            Defaults to 'backbone.ln1'.
    """

    def __init__(self,
                 model: nn.Module,
                 head_name: str = 'head',
                 final_norm_name: str = 'backbone.ln1') -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.head_name = head_name
        self.final_norm_name = final_norm_name
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
            inputs (Tensor): Images (B, C, H, W), normalised as the student
                wants them; see :meth:`match_inputs`.
            names (Sequence[str]): Module paths in the teacher's model.

        Returns:
            Dict[str, Tensor]: Path to output.
        """
        with LayerRecorder(self.model, names) as records:
            self.model(self.adapt_inputs(inputs))
        return dict(records)

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
            inputs (Tensor): Images (B, C, H, W).

        Returns:
            Tensor: Images (B, C, H, W).
        """
        if self._flip_channels:
            inputs = inputs.flip(1)
        if self._renormalise is not None:
            scale, shift = (t.to(inputs) for t in self._renormalise)
            inputs = inputs * scale + shift
        return inputs
