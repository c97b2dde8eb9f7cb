from abc import abstractmethod
from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from transmamba_mm.distillation import LayerRecorder
from ..layers.token_layout import TokenLayout
from .teacher_inputs import as_dtype, as_size, output_tensor, resize_images

Size = Tuple[int, int]


class FrozenTeacher(nn.Module):
    """A model that only shows its features: eval mode, no gradient.

    A hook owns the teacher; the student only borrows it, so that the teacher
    is in no checkpoint, optimizer or moving average. A sub-class builds
    ``model`` and answers the questions below.

    A teacher of images sees a clip frame by frame, and its features are put
    together as those of one clip, the class tokens and logits as the mean
    over the frames (our choice). A teacher of clips sets ``takes_clips`` and
    gives such features itself. A teacher of texts takes a dict with
    ``input_ids`` and, if wanted, ``attention_mask``.

    Images of another size than ``native_size`` are handed on if the model
    interpolates its position embedding, and resized (bicubic, antialiased)
    if not; the log says which.

    Args:
        model (nn.Module): The network.
        head_name (str): Path of the module whose output are the logits; ''
            is the model itself. Defaults to 'head'.
        final_norm_name (str): Path of the norm after the last layer.
            Defaults to 'backbone.ln1'.
        layer_name (str): Path of a layer, with '{}' for its index. Defaults
            to 'backbone.layers.{}'.
        dtype (str, optional): Precision of the weights and of the
            computation, 'float32', 'bfloat16' or 'float16', whatever the
            student's; features come back as float32. None takes the model
            as it is, under the student's autocast. Defaults to None.
        input_size (int | Tuple[int, int], optional): Height and width to
            which every image is resized. None resizes only what the model
            cannot take. Defaults to None.
    """

    #: Whether the model itself takes clips (B, C, T, H, W).
    takes_clips = False
    #: Whether the model interpolates its position embedding by itself.
    interpolates = True
    #: Whether the model takes token numbers and no images.
    takes_text = False
    #: Whether features come from the host, which no CUDA graph can record.
    uses_host = False

    def __init__(self,
                 model: nn.Module,
                 head_name: str = 'head',
                 final_norm_name: str = 'backbone.ln1',
                 layer_name: str = 'backbone.layers.{}',
                 dtype: Optional[str] = None,
                 input_size: Union[int, Size, None] = None) -> None:
        super().__init__()
        self.dtype = as_dtype(dtype)
        self.input_size = as_size(input_size)
        self.model = model.requires_grad_(False).to(self.dtype)
        self.head_name = head_name
        self.final_norm_name = final_norm_name
        self.layer_name = layer_name
        self._renormalise: Optional[Tuple[Tensor, Tensor]] = None
        self._flip_channels = False
        self._told_sizes = set()
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

    @property
    def native_size(self) -> Optional[Size]:
        """Tuple[int, int], optional: Height and width the model was built
        for, if it is known."""
        return None

    @property
    def kind(self) -> str:
        """str: Name of the network's class, for the log."""
        return type(self.model).__name__

    def describe(self) -> str:
        """Say in a few words what teaches, for the log.

        Returns:
            str: Kind, width, depth, and precision and size if they are set.
        """
        text = (f'{self.kind} of width {self.embed_dims} and '
                f'{self.depth} layers')
        if self.dtype is not None:
            text += f' in {str(self.dtype)[len("torch."):]}'
        if self.input_size is not None:
            text += f', which sees images of {self.input_size}'
        return text

    def check_student(self, preprocessor: nn.Module) -> None:
        """Refuse a student whose inputs the teacher cannot take.

        Args:
            preprocessor (nn.Module): The student's data preprocessor.
        """

    def close(self) -> None:
        """Finish after training, such as write a summary to the log."""

    def run_model(self, inputs: Union[Tensor, Dict[str, Tensor]]) -> object:
        """Run the model on inputs that are ready for it.

        Args:
            inputs (Tensor | Dict[str, Tensor]): What :meth:`adapt_inputs`
                returns, or a text.

        Returns:
            object: What the model returns.
        """
        return self.model(inputs)

    @torch.no_grad()
    def record(self,
               inputs: Union[Tensor, Dict[str, Tensor]],
               names: Sequence[str],
               data_samples: Optional[list] = None) -> Dict[str, Tensor]:
        """Run the teacher and keep some outputs.

        Args:
            inputs (Tensor | Dict[str, Tensor]): Images (B, C, H, W) or clips
                (B, C, T, H, W), normalised as the student wants them, see
                :meth:`match_inputs`; or a text, see the class.
            names (Sequence[str]): Module paths in the teacher's model.
            data_samples (List[DataSample], optional): What else is known of
                the inputs; only a cache looks at it. Defaults to None.

        Returns:
            Dict[str, Tensor]: Path to output; tokens stand as
            :meth:`record_layout` says.

        Raises:
            ValueError: If a teacher of texts is shown images.
        """
        if isinstance(inputs, dict):
            return self._record_tokens(inputs, names)
        if self.takes_text:
            raise ValueError(
                f'{type(self.model).__name__} reads texts, and the student '
                "sees images: set tower='vision' in the `teacher` of "
                'BidirectionalDistillHook in custom_hooks, or take a teacher '
                'of images.')
        num_frames = None
        if inputs.dim() == 5 and not self.takes_clips:
            num_frames = inputs.shape[2]
            inputs = inputs.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
        records = self._record_tokens(self.adapt_inputs(inputs), names)
        if num_frames is None:
            return records
        layout = self.token_layout(self.seen_size(inputs.shape[-2:]))
        return {
            name: _join_frames(x, layout, num_frames)
            for name, x in records.items()
        }

    def _record_tokens(self, inputs, names: Sequence[str]) \
            -> Dict[str, Tensor]:
        """Record; a norm that sees the class token alone sees all tokens."""
        norm, last = self.final_norm_name, self.layer_name.format(self.depth -
                                                                  1)
        if norm not in names:
            return self._record_raw(inputs, names)
        records = self._record_raw(inputs, [*names, last])
        if records[norm].dim() == 2:
            tokens = records[last].to(self.dtype or records[last].dtype)
            records[norm] = self.model.get_submodule(norm)(tokens).to(
                records[norm])
        return {name: records[name] for name in names}

    def _record_raw(self, inputs, names: Sequence[str]) -> Dict[str, Tensor]:
        """Run the model on ready inputs, in the teacher's precision."""
        if self.dtype is None:
            with LayerRecorder(self.model, names) as records:
                self.run_model(inputs)
            return {k: output_tensor(v) for k, v in records.items()}
        kind = next(self.model.parameters()).device.type
        if isinstance(inputs, Tensor):
            inputs = inputs.to(self.dtype)
        with torch.autocast(kind, enabled=False), \
                LayerRecorder(self.model, names) as records:
            self.run_model(inputs)
        return {k: output_tensor(v).float() for k, v in records.items()}

    def seen_size(self, image_size: Size) -> Size:
        """Tell in which size the model sees an image.

        Args:
            image_size (Tuple[int, int]): Height and width of the image.

        Returns:
            Tuple[int, int]: Height and width after resizing.
        """
        image_size = tuple(image_size)
        if self.input_size is not None:
            return self.input_size
        native = self.native_size
        return image_size if native is None or self.interpolates else native

    def record_layout(self,
                      input_size: Tuple[int, ...],
                      layer: int = -1) -> TokenLayout:
        """Tell how the recorded tokens stand for an image or a clip.

        Args:
            input_size (Tuple[int, ...]): Height and width in pixels; before
                them the number of frames, for a clip. Of a text, its number
                of tokens alone.
            layer (int): Layer index. Defaults to -1.

        Returns:
            TokenLayout: As :meth:`token_layout`; of a clip that was seen
            frame by frame, with its frames and at most one class token; of a
            text, one row.
        """
        if self.takes_text:
            return TokenLayout((1, input_size[-1]))
        input_size = (*input_size[:-2], *self.seen_size(input_size[-2:]))
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

    def input_state(self) -> tuple:
        """Say what is done to the student's images, as plain values.

        Returns:
            tuple: Equal for two teachers that treat images alike.
        """
        told = self._renormalise or ()
        return (self._flip_channels, self.input_size, str(self.dtype),
                [t.flatten().tolist() for t in told])

    def adapt_inputs(self, inputs: Tensor) -> Tensor:
        """Re-normalise the student's images, and resize them if needed.

        Args:
            inputs (Tensor): Images (B, C, H, W) or clips (B, C, T, H, W).

        Returns:
            Tensor: Of the same shape, but for height and width.
        """
        if self._flip_channels:
            inputs = inputs.flip(1)
        if self._renormalise is not None:
            channels = (-1, *[1] * (inputs.dim() - 2))
            scale, shift = (
                t.to(inputs).reshape(channels) for t in self._renormalise)
            inputs = inputs * scale + shift
        size = tuple(inputs.shape[-2:])
        seen = self.seen_size(size)
        self._tell_size(size, seen)
        return inputs if seen == size else resize_images(inputs, seen)

    def _tell_size(self, size: Size, seen: Size) -> None:
        """Log once how images of another size are handled."""
        native = self.native_size
        if size in self._told_sizes or (seen == size
                                        and native in (None, size)):
            return
        self._told_sizes.add(size)
        what = []
        if seen != size:
            what.append(f'they are resized to {seen} for it')
        if native not in (None, seen):
            what.append('its position embedding is interpolated')
        print_log(
            f'Images of {size} for a teacher of {native or seen}: '
            f'{", and ".join(what)}. `input_size` of the teacher sets the '
            'size in which it sees images.',
            logger='current')


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
