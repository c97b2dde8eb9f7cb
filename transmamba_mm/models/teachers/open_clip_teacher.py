from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.towers import tower_name
from ..layers.token_layout import TokenLayout
from .frozen_teacher import FrozenTeacher
from .open_clip_loading import load_tower
from .teacher_inputs import as_size, vit_layout


@MODELS.register_module()
class OpenCLIPTeacher(FrozenTeacher):
    """A tower of an open_clip model as the teacher.

    The visual tower may be open_clip's own ViT or one of timm's. The text
    tower takes ``dict(input_ids=...)``, token numbers (B, L) of open_clip's
    tokenizer; it needs no mask.

    open_clip cannot interpolate the position embedding from image to image.
    Images of another size are resized, unless ``input_size`` says the size of
    the images: then the embedding is resized once, when it is loaded.

    Args:
        model_name (str): Name of an architecture such as 'ViT-B-16', a folder
            with open_clip_config.json and weights, or 'hf-hub:NAME' where
            there is a network.
        pretrained (str, optional): Weights file, or one of open_clip's tags
            where there is a network. None takes the weights of the folder or
            of the hub's repository. Files under a ``clip.`` prefix
            (CLIP4Clip) are read too. Defaults to None.
        tower (str): 'vision' or 'text'. Defaults to 'vision'.
        quick_gelu (bool, optional): Whether the weights were trained with
            QuickGELU. None takes the architecture's word, but QuickGELU for
            weights that are OpenAI's: by their tag, by the entries that only
            OpenAI's files have, or by the prefix ``clip.``. Defaults to None.
        dtype (str, optional): See :class:`FrozenTeacher`. Defaults to None.
        input_size (int | Tuple[int, int], optional): Height and width in
            which the visual tower sees images. Defaults to None.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If there is no such architecture, or the weights do not
            fit it.

    Examples:
        >>> teacher = dict(
        ...     type='transmamba_mm.OpenCLIPTeacher',
        ...     model_name='ViT-B-16-quickgelu',
        ...     pretrained='checkpoints/ViT-B-16.safetensors')
    """

    interpolates = False

    def __init__(self,
                 model_name: str,
                 pretrained: Optional[str] = None,
                 tower: str = 'vision',
                 quick_gelu: Optional[bool] = None,
                 dtype: Optional[str] = None,
                 input_size: Union[int, Sequence[int], None] = None) -> None:
        tower = tower_name(tower)
        if tower not in ('vision', 'text'):
            raise ValueError(f"OpenCLIPTeacher.tower={tower!r}, but it must "
                             "be 'vision' or 'text'.")
        input_size = as_size(input_size)
        if tower == 'text' and input_size is not None:
            raise ValueError('OpenCLIPTeacher.input_size is for images; leave '
                             "it out with tower='text'.")
        model = load_tower(model_name, pretrained,
                           'text' if tower == 'text' else 'visual', quick_gelu,
                           input_size)
        layers, norm = _paths(model)
        super().__init__(
            model,
            head_name='',
            final_norm_name=norm,
            layer_name=f'{layers}.{{}}',
            dtype=dtype,
            input_size=input_size)
        self.takes_text = tower == 'text'
        self._trunk = getattr(model, 'trunk', None)

    @property
    def kind(self) -> str:
        """str: Class of the tower and its activation, for the log."""
        names = {type(m).__name__ for m in self.model.modules()}
        act = 'QuickGELU' if 'QuickGELU' in names else 'GELU'
        return f'{type(self._trunk or self.model).__name__} ({act})'

    @property
    def embed_dims(self) -> int:
        """int: Width of the features."""
        if self._trunk is not None:
            return self._trunk.embed_dim
        return self.model.transformer.width

    @property
    def depth(self) -> int:
        """int: Number of transformer layers."""
        path = self.layer_name[:-len('.{}')]
        return len(self.model.get_submodule(path))

    @property
    def num_classes(self) -> Optional[int]:
        """int, optional: None, since a CLIP has no classes."""
        return None

    @property
    def native_size(self) -> Optional[Tuple[int, int]]:
        """Tuple[int, int], optional: Size of the images, None for texts."""
        if self._trunk is not None:
            return as_size(self._trunk.patch_embed.img_size)
        return None if self.takes_text else as_size(self.model.image_size)

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`FrozenTeacher.token_layout`."""
        if self._trunk is not None:
            return vit_layout(image_size, self._trunk.patch_embed.patch_size,
                              self._trunk.num_prefix_tokens)
        return vit_layout(image_size, self.model.patch_size, 1)

    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """See :meth:`FrozenTeacher.normalisation`."""
        if self.takes_text:
            return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), False
        mean, std = (
            255 * torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
            for values in (self.model.image_mean, self.model.image_std))
        return mean, std, True

    def run_model(self, inputs: Union[Tensor, Dict[str, Tensor]]) -> object:
        """See :meth:`FrozenTeacher.run_model`."""
        if isinstance(inputs, dict):
            return self.model(inputs['input_ids'])
        return self.model(inputs)


def _paths(model: nn.Module) -> Tuple[str, str]:
    """Return the paths of a tower's list of layers and of its last norm."""
    if hasattr(model, 'transformer') and hasattr(model.transformer,
                                                 'resblocks'):
        norm = 'ln_final' if hasattr(model, 'ln_final') else 'ln_post'
        return 'transformer.resblocks', norm
    trunk = getattr(model, 'trunk', None)
    if all(
            hasattr(trunk, name) for name in ('blocks', 'norm', 'patch_embed',
                                              'num_prefix_tokens')):
        return 'trunk.blocks', 'trunk.norm'
    raise ValueError(
        f'{type(trunk or model).__name__} cannot teach: it has no list of '
        'equal layers. Take a ViT, or the text tower of one; for a text tower '
        'of the Transformers library use HFTeacher. Change `model_name` of '
        'the OpenCLIPTeacher in custom_hooks.')
