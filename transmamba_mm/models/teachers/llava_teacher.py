from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..layers.token_layout import TokenLayout
from .frozen_teacher import FrozenTeacher
from .mmpretrain_teacher import (build_teacher, load_teacher_weights,
                                 preprocessor_normalisation)
from .teacher_weights import WHERE


@MODELS.register_module()
class LlavaTeacher(FrozenTeacher):
    """A trained ``TransLlava``, such as one with a LLaMA, as the teacher.

    It sees the student's images and texts; its features are those of the
    language model's layers, visual tokens in their place. No logits are made
    of them: :class:`~transmamba_mm.models.DistillTransLlava` asks the head.

    Args:
        config (str | dict): Config file of the teacher's training, or a
            config dict (the ``model`` dict alone will do).
        checkpoint (str): Its weights.
        dtype (str, optional): See :class:`FrozenTeacher`. Defaults to
            'bfloat16'.
        input_size (int | Tuple[int, int], optional): See
            :class:`FrozenTeacher`. Defaults to None.

    Raises:
        ValueError: If the config is of another model, or the weights do not
            fit it.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self,
                 config: Union[str, dict],
                 checkpoint: str,
                 dtype: Optional[str] = 'bfloat16',
                 input_size: Union[int, Sequence[int], None] = None) -> None:
        model = build_teacher(config)
        language_model = getattr(model, 'language_model', None)
        if language_model is None:
            raise ValueError(
                f'{type(model).__name__} has no language model; give the '
                'config of a transmamba_mm.TransLlava as `config` of '
                f'{WHERE}.')
        load_teacher_weights(model, checkpoint)
        layers = f'language_model.{language_model.base_model_prefix}'
        base = language_model.base_model
        norm = next(n for n in ('norm_f', 'norm') if hasattr(base, n))
        super().__init__(
            model,
            head_name='language_model.lm_head',
            final_norm_name=f'{layers}.{norm}',
            layer_name=f'{layers}.layers.{{}}',
            dtype=dtype,
            input_size=input_size)

    @property
    def embed_dims(self) -> int:
        """int: Width of the language model."""
        return self.model.language_model.config.hidden_size

    @property
    def depth(self) -> int:
        """int: Layers of the language model."""
        return self.model.language_model.config.num_hidden_layers

    @property
    def num_classes(self) -> int:
        """int: Number of words."""
        return self.head.weight.shape[0]

    @property
    def kind(self) -> str:
        """str: Name of the language model's class, for the log."""
        return type(self.model.language_model).__name__

    @property
    def head(self) -> nn.Module:
        """nn.Module: What makes logits of the last features."""
        return self.model.language_model.get_output_embeddings()

    @property
    def vocabulary(self) -> Optional[Tensor]:
        """Tensor, optional: Mark of its tokenizer."""
        return getattr(self.model, 'vocabulary', None)

    def token_layout(self,
                     image_size: Tuple[int, ...],
                     layer: int = -1) -> TokenLayout:
        """Lay texts with their images out in one row.

        Args:
            image_size (Tuple[int, ...]): Ends with the number of tokens.
            layer (int): Not used. Defaults to -1.

        Returns:
            TokenLayout: One row.
        """
        return TokenLayout((1, image_size[-1]))

    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """See :meth:`FrozenTeacher.normalisation`."""
        return preprocessor_normalisation(self.model.data_preprocessor)

    def run_model(self, inputs: Tuple[Dict[str, Tensor], Any]) -> object:
        """Run vision tower, projector and language model without its head.

        Args:
            inputs (Tuple[Dict[str, Tensor], list]): The batch, and its data
                samples.

        Returns:
            object: What the language model returns.
        """
        return self.model.hidden_states(self.model.embed(*inputs))

    @torch.no_grad()
    def record(self,
               inputs: Dict[str, Tensor],
               names: Sequence[str],
               data_samples: Optional[list] = None) -> Dict[str, Tensor]:
        """Run the teacher and keep some outputs.

        Args:
            inputs (Dict[str, Tensor]): The student's batch, with ``images``
                (B, C, H, W) normalised as the student wants them.
            names (Sequence[str]): Module paths in the teacher's model.
            data_samples (List[DataSample], optional): See
                :class:`~transmamba_mm.models.TransLlava`. Defaults to None.

        Returns:
            Dict[str, Tensor]: Path to output (B, L, C).

        Raises:
            TypeError: If the student is shown images alone.
        """
        if not isinstance(inputs, dict):
            raise TypeError(
                'LlavaTeacher reads images with texts, for a '
                'transmamba_mm.DistillTransLlava; change `type` in '
                f'{WHERE}.')
        images = self.adapt_inputs(inputs['images'])
        inputs = dict(inputs, images=images.to(self.dtype or images.dtype))
        return self._record_raw((inputs, data_samples), names)
