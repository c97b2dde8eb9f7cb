"""Build the language model of a visual question answering model."""
import inspect
from typing import Optional, Sequence

from torch import nn

from ..teachers.hf_loading import import_transformers, load_hf_model

_WHERE = 'model.language_model'


def build_language_model(config: Optional[dict] = None,
                         pretrained: Optional[str] = None,
                         lora: Optional[dict] = None,
                         gradient_checkpointing: bool = False,
                         prefill_chunk: int = 0) -> nn.Module:
    """Build a causal language model of the Transformers library.

    Mamba and Mamba-2 run on our selective scan, see
    :func:`~transmamba_mm.models.multimodal.mamba_language_model.route_scan`;
    any other, such as LLaMA, as the library has it.

    Args:
        config (dict, optional): Its ``model_type``, such as 'mamba', and the
            arguments of the config class, for random weights. Defaults to
            None.
        pretrained (str, optional): A folder as ``save_pretrained`` writes
            it, or a name on the hub; weights are read as data only. Defaults
            to None.
        lora (dict, optional): Arguments of ``peft.LoraConfig``, such as
            ``r`` and ``target_modules``: only the adapters are then trained.
            Defaults to None.
        gradient_checkpointing (bool): Whether layers are computed again for
            the backward pass, to save memory. Defaults to False.
        prefill_chunk (int): For Mamba, tokens of a prompt that are read at
            once in generation; 0 reads it whole. Defaults to 0.

    Returns:
        nn.Module: The model, with its ``config``.

    Raises:
        ValueError: If not one of ``config`` and ``pretrained`` is given, the
            kind is unknown, or arguments do not fit.
        FileNotFoundError: If there is no such folder or model.
        ImportError: If Transformers, or peft for ``lora``, is missing.
    """
    if (config is None) == (pretrained is None):
        raise ValueError(f'{_WHERE} has config={config!r} and pretrained='
                         f'{pretrained!r}: give one of them.')
    model = _from_config(config) if pretrained is None else _load(pretrained)
    if model.config.model_type in ('mamba', 'mamba2'):
        from .mamba_language_model import route_scan
        model = route_scan(model, prefill_chunk)
    elif prefill_chunk:
        raise ValueError(f'{_WHERE}.prefill_chunk={prefill_chunk}, but a '
                         f'{model.config.model_type} reads prompts whole.')
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs=dict(use_reentrant=False))
    if lora is not None:
        model = _add_lora(model, lora)
    # MMEngine would otherwise initialise it again
    model.is_init = True
    return model


def _from_config(config: dict) -> nn.Module:
    """Build a model with random weights."""
    transformers = import_transformers()
    config = dict(config)
    kind = config.pop('model_type', None)
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f'{_WHERE}.config.model_type={kind!r} is unknown; '
                         "give 'mamba', 'mamba2', 'llama' or another causal "
                         'language model of the Transformers library.')
    cls = transformers.CONFIG_MAPPING[kind]
    unknown = set(config) - _arguments(cls)
    if unknown:
        raise ValueError(f'{_WHERE}.config has {sorted(unknown)}, which '
                         f'{cls.__name__} does not know.')
    built = cls(**config)
    if type(built) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f'{_WHERE}.config.model_type={kind!r} is no causal '
                         'language model.')
    return transformers.AutoModelForCausalLM.from_config(built)


def _arguments(cls: type) -> set:
    """Return what a config class takes."""
    base = inspect.getmro(cls)[1]
    names = set()
    for kind in (cls, base):
        names |= set(inspect.signature(kind.__init__).parameters)
    return names | {
        'bos_token_id', 'eos_token_id', 'pad_token_id', 'tie_word_embeddings'
    }


def _load(pretrained: str) -> nn.Module:
    """Load a model."""
    try:
        model = load_hf_model(pretrained)
    except (ValueError, FileNotFoundError) as error:
        raise type(
            error)(f"{_WHERE}.pretrained='{pretrained}' cannot be had: {error}"
                   ) from error
    if model.get_output_embeddings() is None:
        raise ValueError(
            f"{_WHERE}.pretrained='{pretrained}' is a {type(model).__name__}, "
            'which has no language head.')
    model.config.use_cache = True
    return model


def _add_lora(model: nn.Module, lora: dict) -> nn.Module:
    """Put low-rank adapters beside layers, and freeze the rest."""
    try:
        import peft
    except ImportError as error:
        raise ImportError(f'{_WHERE}.lora needs the peft package. Run: pip '
                          "install 'peft>=0.15'") from error
    lora = dict(lora)
    if model.config.model_type in ('mamba', 'mamba2'):
        lora.setdefault('target_modules', ['in_proj'])
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**lora), model)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{_WHERE}.lora={lora} does not fit: {error}') \
            from error
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Add the adapters of a language model to its weights and remove them.

    Args:
        model (nn.Module): A language model built with ``lora``.

    Returns:
        nn.Module: The same model, with the names it has without adapters.
    """
    from peft.tuners.lora import LoraLayer
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition('.')
            setattr(
                model.get_submodule(parent), child, module.get_base_layer())
    return model


def adapt_lora_names(state_dict: dict, names: Sequence[str],
                     prefix: str) -> None:
    """Let weights of a model without adapters load into one with them.

    Args:
        state_dict (dict): Weights, renamed in place.
        names (Sequence[str]): Names of the model's own weights.
        prefix (str): Prefix of these names in ``state_dict``.
    """
    mark = '.base_layer.'
    for name in names:
        if mark not in name:
            continue
        key, plain = prefix + name, prefix + name.replace(mark, '.')
        if key not in state_dict and plain in state_dict:
            state_dict[key] = state_dict.pop(plain)
