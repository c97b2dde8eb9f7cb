"""Mamba language models of the Transformers library, on our scan."""
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Mamba2ForCausalLM, MambaForCausalLM
from transformers.modeling_outputs import (BaseModelOutputWithPast,
                                           CausalLMOutputWithPast)
from transformers.models.mamba2.modeling_mamba2 import Mamba2Block, Mamba2Model
from transformers.models.mamba.modeling_mamba import MambaBlock, MambaModel

from .recurrent_state import RecurrentState
from .scan_mixer import ScanMixer
from .scan_mixer2 import ScanMixer2


def route_scan(model: nn.Module, prefill_chunk: int = 0) -> nn.Module:
    """Make a Mamba of the Transformers library run on our selective scan.

    The modules, parameters and names stay; only what they compute with
    changes, by changing their classes to sub-classes.

    Args:
        model (nn.Module): A ``MambaForCausalLM`` or ``Mamba2ForCausalLM``.
        prefill_chunk (int): Tokens of a prompt that are read at once in
            generation, to bound the memory; 0 reads it whole. Defaults to 0.

    Returns:
        nn.Module: The same object.

    Raises:
        TypeError: If the model is neither.
        ValueError: If its activation is not SiLU, or ``prefill_chunk`` is
            negative.
    """
    kinds = _CLASSES.get(type(model))
    if kinds is None:
        raise TypeError(f'{type(model).__name__} is no MambaForCausalLM or '
                        'Mamba2ForCausalLM of the Transformers library.')
    if model.config.hidden_act not in ('silu', 'swish'):
        raise ValueError(f'language_model: hidden_act='
                         f"'{model.config.hidden_act}'; give 'silu'.")
    if prefill_chunk < 0:
        raise ValueError(f'language_model.prefill_chunk={prefill_chunk}; '
                         'give 0 or more.')
    whole, backbone, block, mixer = kinds
    model.__class__ = whole
    model.backbone.__class__ = backbone
    model.backbone.prefill_chunk = prefill_chunk
    for layer in model.backbone.layers:
        layer.__class__ = block
        layer.mixer.__class__ = mixer
    return model


class _BlockForward:
    """A layer that takes our state."""

    def forward(self,
                hidden_states: Tensor,
                state: Optional[RecurrentState] = None,
                mask: Optional[Tensor] = None) -> Tensor:
        residual = hidden_states
        out = self.norm(hidden_states.to(self.norm.weight.dtype))
        if self.residual_in_fp32:
            residual = residual.float()
        return residual + self.mixer(out, state, mask)


class _BackboneForward:
    """Layers that hand our state on."""

    prefill_chunk = 0
    #: For distillation: a causal scan has one direction.
    direction_names = ('forward', )
    final_norm_name = 'norm_f'

    @property
    def block_names(self) -> List[str]:
        return [f'layers.{i}' for i in range(len(self.layers))]

    @property
    def block_dims(self) -> List[int]:
        return [self.config.hidden_size] * len(self.layers)

    def forward(self,
                input_ids: Optional[Tensor] = None,
                attention_mask: Optional[Tensor] = None,
                inputs_embeds: Optional[Tensor] = None,
                past_key_values: Optional[RecurrentState] = None,
                use_cache: bool = False,
                output_hidden_states: bool = False,
                return_dict: bool = True,
                **kwargs) -> BaseModelOutputWithPast:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError('Give one of input_ids and inputs_embeds.')
        x = self.embeddings(input_ids) if inputs_embeds is None else \
            inputs_embeds
        state, mask = past_key_values, _as_mask(attention_mask, x)
        if state is None and use_cache:
            state = RecurrentState(len(self.layers))
        if state is not None:
            _refuse_right_padding(mask)
        chunk = self.prefill_chunk if state is not None else 0
        pieces = [self._run(x, mask, state, output_hidden_states)
                  ] if not (0 < chunk < x.shape[1]) else [
                      self._run(x[:, i:i + chunk], None if mask is None else
                                mask[:,
                                     i:i + chunk], state, output_hidden_states)
                      for i in range(0, x.shape[1], chunk)
                  ]
        layers = [torch.cat(parts, dim=1)
                  for parts in zip(*pieces)] if len(pieces) > 1 else pieces[0]
        return BaseModelOutputWithPast(
            last_hidden_state=layers[-1],
            past_key_values=state,
            hidden_states=tuple(layers) if output_hidden_states else None)

    def _run(self, x: Tensor, mask: Optional[Tensor],
             state: Optional[RecurrentState], keep: bool) -> List[Tensor]:
        """Return what comes out of the layers, if kept, and of the norm."""
        outs = []
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled() and \
                    state is None:
                x = checkpoint(layer, x, None, mask, use_reentrant=False)
            else:
                x = layer(x, state, mask)
            if keep:
                outs.append(x)
        if state is not None:
            state.num_seen += x.shape[1]
        return outs + [self.norm_f(x)]


class _LanguageModelForward:
    """A head, and what ``generate`` of Transformers asks for.

    The state goes by the name ``past_key_values``, since that is what a beam
    search reorders; in late releases 5 of the library, ``cache``.
    """

    def forward(self,
                input_ids: Optional[Tensor] = None,
                attention_mask: Optional[Tensor] = None,
                inputs_embeds: Optional[Tensor] = None,
                past_key_values: Optional[RecurrentState] = None,
                labels: Optional[Tensor] = None,
                use_cache: bool = False,
                output_hidden_states: bool = False,
                logits_to_keep: int = 0,
                return_dict: bool = True,
                **kwargs) -> CausalLMOutputWithPast:
        out = self.backbone(
            input_ids,
            attention_mask,
            inputs_embeds,
            past_key_values,
            use_cache,
            output_hidden_states=output_hidden_states)
        hidden = out.last_hidden_state[:, -logits_to_keep:]
        logits = self.lm_head(hidden.to(self.lm_head.weight.dtype)).float()
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1),
                                               labels[:, 1:].flatten())
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states)

    def prepare_inputs_for_generation(
            self,
            input_ids: Tensor,
            past_key_values: Optional[RecurrentState] = None,
            attention_mask: Optional[Tensor] = None,
            inputs_embeds: Optional[Tensor] = None,
            use_cache: Optional[bool] = True,
            **kwargs) -> Dict[str, Any]:
        inputs = dict(use_cache=bool(use_cache), logits_to_keep=1)
        if past_key_values is not None and past_key_values.num_seen:
            return dict(
                inputs,
                input_ids=input_ids[:, -1:],
                past_key_values=past_key_values)
        inputs.update(
            attention_mask=attention_mask, past_key_values=past_key_values)
        if inputs_embeds is None:
            return dict(inputs, input_ids=input_ids)
        new = self.backbone.embeddings(input_ids).to(inputs_embeds.dtype)
        return dict(inputs, inputs_embeds=torch.cat([inputs_embeds, new], 1))

    def _update_model_kwargs_for_generation(self,
                                            outputs: Any,
                                            model_kwargs: Dict[str, Any],
                                            *args,
                                            num_new_tokens: int = 1,
                                            **kwargs) -> Dict[str, Any]:
        model_kwargs['past_key_values'] = outputs.past_key_values
        if 'cache' in model_kwargs:
            model_kwargs['cache'] = outputs.past_key_values
        mask = model_kwargs.get('attention_mask')
        if mask is not None:
            new = mask.new_ones(len(mask), num_new_tokens)
            model_kwargs['attention_mask'] = torch.cat([mask, new], dim=1)
        return model_kwargs

    @staticmethod
    def _reorder_cache(past_key_values: Optional[RecurrentState],
                       beam_idx: Tensor) -> Optional[RecurrentState]:
        if past_key_values is None:  # decoding without a state
            return None
        return past_key_values.reorder_cache(beam_idx)


class _Block(_BlockForward, MambaBlock):
    pass


class _Block2(_BlockForward, Mamba2Block):
    pass


class _Backbone(_BackboneForward, MambaModel):
    pass


class _Backbone2(_BackboneForward, Mamba2Model):
    pass


class ScanMambaForCausalLM(_LanguageModelForward, MambaForCausalLM):
    """``MambaForCausalLM`` on our scan; see :func:`route_scan`."""


class ScanMamba2ForCausalLM(_LanguageModelForward, Mamba2ForCausalLM):
    """``Mamba2ForCausalLM`` on our scan; see :func:`route_scan`."""


# `save_pretrained` writes the name, by which the library finds its own class
ScanMambaForCausalLM.__name__ = MambaForCausalLM.__name__
ScanMamba2ForCausalLM.__name__ = Mamba2ForCausalLM.__name__

_CLASSES = {
    MambaForCausalLM: (ScanMambaForCausalLM, _Backbone, _Block, ScanMixer),
    Mamba2ForCausalLM:
    (ScanMamba2ForCausalLM, _Backbone2, _Block2, ScanMixer2),
}


def _as_mask(mask: Optional[Tensor], x: Tensor) -> Optional[Tensor]:
    """Return a bool mask, None if there is no padding to hide."""
    if mask is None:
        return None
    if mask.shape != x.shape[:2]:
        raise ValueError(f'attention_mask has the shape {tuple(mask.shape)}; '
                         f'give {tuple(x.shape[:2])}.')
    return mask.bool()


def _refuse_right_padding(mask: Optional[Tensor]) -> None:
    if mask is not None and (mask[:, :-1] & ~mask[:, 1:]).any():
        raise ValueError(
            'A prompt is padded on the right; a recurrent model goes on from '
            "its last token, so pad on the left (padding_side='left').")
