import inspect
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from transmamba_mm.distillation import LayerRecorder
from transmamba_mm.registry import MODELS
from ..layers.token_layout import TokenLayout
from .frozen_teacher import FrozenTeacher
from .hf_loading import load_hf_model
from .hf_normalisation import read_normalisation
from .teacher_inputs import as_dtype, as_size, output_tensor, vit_layout

#: Last part of the path of the norm after the layers, in any family.
_FINAL_NORMS = ('layernorm', 'post_layernorm', 'final_layer_norm',
                'final_layernorm', 'ln_f', 'norm')
#: Families that interpolate their position embedding without being told.
_INTERPOLATING = ('dinov2', 'dinov2_with_registers')


@MODELS.register_module()
class HFTeacher(FrozenTeacher):
    """A network of Hugging Face's Transformers library as the teacher.

    ViT, DeiT (distilled too), CLIP and SigLIP by tower, decoders like LLaMA,
    and the towers of LLaVA; also others whose layers stand in one list and
    whose image tokens are all patches behind a few extra ones, which is
    tried out on a blank image.

    A text teacher (``takes_text``) takes ``dict(input_ids=...,
    attention_mask=...)``, both (B, L).

    Args:
        pretrained (str): A folder as ``save_pretrained`` writes it, or a
            name on the hub where there is a network. Set ``HF_HUB_OFFLINE=1``
            to use the hub's cache alone.
        tower (str, optional): 'vision' or 'text' of a CLIP or SigLIP, None
            is the former; 'text' or 'vision' of a LLaVA, to be given. A model
            of one tower needs none. Defaults to None.
        dtype (str, optional): See :class:`FrozenTeacher`. Defaults to None.
        input_size (int | Tuple[int, int], optional): See
            :class:`FrozenTeacher`. Defaults to None.
        mean (Sequence[float], optional): Mean of the images in pixel values,
            in place of the one in the model's folder. Defaults to None.
        std (Sequence[float], optional): Likewise. Defaults to None.

    Raises:
        FileNotFoundError: If there is no such folder or model.
        ValueError: If the model cannot teach, or its weights are quantised,
            incomplete or not finite.

    Examples:
        >>> teacher = dict(
        ...     type='transmamba_mm.HFTeacher',
        ...     pretrained='checkpoints/deit-small-patch16-224')
    """

    def __init__(self,
                 pretrained: str,
                 tower: Optional[str] = None,
                 dtype: Optional[str] = None,
                 input_size: Union[int, Sequence[int], None] = None,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None) -> None:
        model = load_hf_model(pretrained, tower,
                              as_dtype(dtype) or torch.float32)
        layers, norm = find_layers(model)
        super().__init__(
            model,
            head_name='',
            final_norm_name=norm or f'{layers}.{self._count(model) - 1}',
            layer_name=f'{layers}.{{}}',
            dtype=dtype,
            input_size=input_size)
        self.pretrained = pretrained
        self.takes_text = model.main_input_name != 'pixel_values'
        arguments = inspect.signature(model.forward).parameters
        self._interpolates_if_told = 'interpolate_pos_encoding' in arguments
        self.interpolates = self._interpolates_if_told or \
            model.config.model_type in _INTERPOLATING
        self._num_extra_tokens = 0
        self._normalisation = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        if not self.takes_text:
            self._normalisation = read_normalisation(pretrained,
                                                     model.config.model_type,
                                                     mean, std)
            self._num_extra_tokens = self._try_out()

    @staticmethod
    def _count(model: nn.Module) -> int:
        return model.config.num_hidden_layers

    @property
    def embed_dims(self) -> int:
        """int: Width of the features."""
        return self.model.config.hidden_size

    @property
    def depth(self) -> int:
        """int: Number of transformer layers."""
        return self._count(self.model)

    @property
    def num_classes(self) -> Optional[int]:
        """int, optional: Number of logits, if there is a head; of a decoder,
        the size of its vocabulary."""
        name = type(self.model).__name__
        if name.endswith(('ForCausalLM', 'LMHeadModel')):
            return self.model.config.vocab_size
        return self.model.config.num_labels if 'Classification' in name \
            else None

    @property
    def native_size(self) -> Optional[Tuple[int, int]]:
        """Tuple[int, int], optional: Size of the images, None for texts."""
        return as_size(getattr(self.model.config, 'image_size', None))

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`FrozenTeacher.token_layout`."""
        return vit_layout(image_size, as_size(self.model.config.patch_size),
                          self._num_extra_tokens)

    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """See :meth:`FrozenTeacher.normalisation`."""
        return (*self._normalisation, not self.takes_text)

    def run_model(self, inputs: Union[Tensor, Dict[str, Tensor]]) -> object:
        """See :meth:`FrozenTeacher.run_model`."""
        if isinstance(inputs, dict):
            return self.model(**inputs)
        if self._interpolates_if_told and \
                tuple(inputs.shape[-2:]) != self.native_size:
            return self.model(inputs, interpolate_pos_encoding=True)
        return self.model(inputs)

    def _try_out(self) -> int:
        """Run a blank image and count the tokens that are no patches."""
        config = self.model.config
        size, patch = self.native_size, getattr(config, 'patch_size', None)
        if size is None or patch is None:
            _refuse(self.model, 'its config has no image_size and patch_size')
        name = self.layer_name.format(0)
        image = torch.zeros(
            1,
            getattr(config, 'num_channels', 3),
            *size,
            dtype=self.dtype or torch.float32)
        with torch.no_grad(), LayerRecorder(self.model, [name]) as records:
            self.model(image)
        tokens = output_tensor(records[name])
        grid = vit_layout(size, as_size(patch), 0).num_tokens
        shape = tuple(tokens.shape)
        if len(shape) != 3 or shape[2] != self.embed_dims or \
                not 0 <= shape[1] - grid <= 16:
            _refuse(
                self.model, f'its first layer gives {shape} for an image of '
                f'{size}, where {grid} patches of width {self.embed_dims} '
                'and a few extra tokens are needed')
        return shape[1] - grid


def find_layers(model: nn.Module) -> Tuple[str, Optional[str]]:
    """Find the list of layers, and the norm after them.

    Args:
        model (nn.Module): A network with a ``config``.

    Returns:
        Tuple[str, Optional[str]]: Path of the list, and path of the norm,
        None if there is none.

    Raises:
        ValueError: If there is no list of ``config.num_hidden_layers`` equal
            layers.
    """
    depth = getattr(model.config, 'num_hidden_layers', None)
    found: List[Tuple[int, str]] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and \
                len({type(child) for child in module}) == 1:
            found.append((sum(p.numel() for p in module.parameters()), path))
    if not found:
        _refuse(model, f'it has no list of {depth} layers')
    layers = max(found)[1]
    norms = [
        path for path, _ in model.named_modules()
        if path.rpartition('.')[2] in _FINAL_NORMS
        and not path.startswith(f'{layers}.')
    ]
    # a pooling head may have a norm of its own, further inside
    return layers, min(norms, key=lambda path: path.count('.'), default=None)


def _refuse(model: nn.Module, why: str) -> None:
    raise ValueError(
        f'{type(model).__name__} cannot teach: {why}. Take a ViT, a DeiT, a '
        'tower of CLIP, SigLIP or LLaVA, or a decoder like LLaMA; change '
        '`pretrained` of the HFTeacher in custom_hooks.')
