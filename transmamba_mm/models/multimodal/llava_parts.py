"""Parts of a visual question answering model."""
from typing import Any, Optional

from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from .image_text import Texts, prompt_texts


def build_projector(kind: str, in_dims: int, out_dims: int) -> nn.Module:
    """Build what takes visual tokens to the language model's width.

    Args:
        kind (str): 'linear', or 'mlp2x_gelu', two layers as in LLaVA-1.5.
        in_dims (int): Width of the visual tokens.
        out_dims (int): Width of the language model.

    Returns:
        nn.Module: The projector.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == 'linear':
        return nn.Linear(in_dims, out_dims)
    if kind == 'mlp2x_gelu':
        return nn.Sequential(
            nn.Linear(in_dims, out_dims), nn.GELU(),
            nn.Linear(out_dims, out_dims))
    raise ValueError(f"model.projector={kind!r} is unknown; use 'linear' or "
                     "'mlp2x_gelu'.")


def build_fusion(config: Optional[dict], dims: int) -> Optional[nn.Module]:
    """Build what lets visual tokens read the question.

    Args:
        config (dict, optional): Arguments of ``CrossMambaFusion``.
        dims (int): Width of both sides.

    Returns:
        nn.Module, optional: The module.

    Raises:
        ValueError: If it would return text.
    """
    if config is None:
        return None
    if config.get('output', 'visual') != 'visual':
        raise ValueError(f"model.fusion.output={config['output']!r}; give "
                         "'visual', since visual tokens go on.")
    return MODELS.build({
        'type': 'transmamba_mm.CrossMambaFusion',
        'visual_dims': dims,
        'text_dims': dims,
        **config
    })


def load_tokenizer(folder: Optional[str], model: nn.Module) -> Any:
    """Load a tokenizer, and check that it fits a language model.

    Args:
        folder (str, optional): Its folder.
        model (nn.Module): The language model.

    Returns:
        Any: The tokenizer, None without a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has more tokens than the model.
    """
    if folder is None:
        return None
    from transmamba_mm.datasets.vqa import load_text_tokenizer
    tokenizer = load_text_tokenizer(folder)
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise ValueError(
            f"model.tokenizer='{folder}' has {len(tokenizer)} tokens and the "
            f'language model {size}: take the tokenizer it was trained with, '
            'or set model.language_model.config.vocab_size.')
    return tokenizer


def fuse_questions(fusion: nn.Module, visual: Tensor, embeddings: Tensor,
                   texts: Texts) -> Tensor:
    """Let visual tokens read their prompts.

    Args:
        fusion (nn.Module): From :func:`build_fusion`.
        visual (Tensor): Visual tokens (B, N, C).
        embeddings (Tensor): The embedded texts (B, L, C).
        texts (Texts): The texts.

    Returns:
        Tensor: Shape (B, N, C).
    """
    columns = prompt_texts(texts)
    if columns is None:  # nothing to read
        return visual
    mask = columns >= 0
    places = columns.clamp(min=0)[..., None]
    text = embeddings.gather(1, places.expand(-1, -1, embeddings.shape[-1]))
    text = text * mask[..., None].to(text.dtype)
    return fusion(visual.to(text.dtype), text, text_mask=mask)
