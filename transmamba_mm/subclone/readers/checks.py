"""Refuse what cannot be read, and say what is left out."""
import re
from typing import Dict, Mapping

from mmengine.logging import print_log

from transmamba_mm.utils.weight_files import WeightFile
from ..teacher_state import Entry, num_layers
from .dialect import Dialect

_QUANTISED = {
    'bitsandbytes': r'.*\.(SCB|absmax|nested_absmax|quant_map|'
    r'nested_quant_map|quant_state\..*)',
    'GPTQ or AWQ': r'.*\.(qweight|qzeros|g_idx|scales)',
    'compressed-tensors': r'.*\.(weight_packed|weight_scale|weight_shape|'
    r'weight_zero_point)',
    'FP8': r'.*\.weight_scale_inv',
    'PyTorch': r'.*\._packed_params(\..*)?',
}
_PLAIN_DTYPES = ('F64', 'F32', 'F16', 'BF16')
_ADAPTER = re.compile(r'.*\.(lora_[AB]|lora_embedding_[AB]|base_layer)\..*')

#: Parts without which a block is no block.
_BLOCK = ('norm1.weight', 'norm2.weight', 'q.weight', 'k.weight', 'v.weight',
          'o.weight')
_MLPS = (('fc1.weight', 'fc2.weight'), ('gate.weight', 'up.weight',
                                        'down.weight'))


def check_plain(weights: WeightFile) -> None:
    """Refuse weights that are quantised, or only an adapter of others.

    Args:
        weights (WeightFile): The file.

    Raises:
        ValueError: If they are.
    """
    config = weights.configs.get('config.json', {})
    method = (config.get('quantization_config') or {}).get('quant_method')
    if method:
        raise ValueError(_quantised(str(method), "'quantization_config'"))
    for key in weights:
        for method, pattern in _QUANTISED.items():
            if re.fullmatch(pattern, key):
                raise ValueError(_quantised(method, f"'{key}'"))
        if _ADAPTER.fullmatch(key):
            raise ValueError(
                f"The weights belong to a LoRA adapter ('{key}'). Merge it "
                'into its model first (`merge_and_unload` of peft), and give '
                'the merged weights.')


def _quantised(method: str, sign: str) -> str:
    return (f'The weights are quantised ({method}, as {sign} shows), so that '
            'no units can be cut out of them. Give the float weights that '
            'they were made from.')


def check_family(weights: WeightFile, dialect: Dialect) -> None:
    """Refuse models that share another one's names, but not its blocks.

    Args:
        weights (WeightFile): The file.
        dialect (Dialect): Its dialect.

    Raises:
        ValueError: If it is known to be such a model.
    """
    kind = str(weights.configs.get('config.json', {}).get('model_type', ''))
    if dialect.name == 'LLaMA' and kind.startswith('gemma'):
        raise ValueError(
            f"The weights are of a '{kind}' model: it has the names of LLaMA, "
            'but its norms multiply by 1 + weight, and its embeddings are '
            'scaled. Take a teacher of the LLaMA, Mistral or Qwen2 kind.')


def check_blocks(entries: Dict[str, Entry], dialect: Dialect,
                 tower: str) -> None:
    """Check that every block is there, and whole.

    Args:
        entries (Dict[str, Entry]): Canonical names of a tower.
        dialect (Dialect): Its dialect.
        tower (str): Its name.

    Raises:
        ValueError: If tensors are missing.
    """
    depth = num_layers(entries)
    blocks: Dict[int, set] = {}
    for name in entries:
        match = re.match(r'layers\.(\d+)\.(.*)', name)
        if match:
            blocks.setdefault(int(match.group(1)), set()).add(match.group(2))
    everywhere = set(_BLOCK).union(*blocks.values())
    if not any(everywhere.issuperset(mlp) for mlp in _MLPS):
        everywhere.update(_MLPS[0])
    missing = [
        f'layers.{i}.{part}' for i, parts in sorted(blocks.items())
        for part in sorted(everywhere - parts)
    ]
    gap = next((i for i in range(depth) if i not in blocks), None)
    if gap is not None:
        missing.insert(0, f'all of layers.{gap}')
    if missing:
        raise ValueError(
            f'The {tower} tower of the {dialect.name} teacher has {depth} '
            f'blocks, but tensors of them are missing: {missing[:6]} '
            f'(canonical names; {len(missing)} in all). The file is '
            'incomplete, a shard of it was not given, or its blocks are of '
            'another kind than those that can be read.')


def check_dtypes(entries: Dict[str, Entry], weights: WeightFile) -> None:
    """Refuse integers and 8-bit floats.

    Args:
        entries (Dict[str, Entry]): Canonical names of a tower.
        weights (WeightFile): The file.

    Raises:
        ValueError: If there are any.
    """
    for name, entry in entries.items():
        dtype = weights.dtype(entry.key)
        if dtype not in _PLAIN_DTYPES:
            raise ValueError(_quantised(dtype, f"'{entry.key}' ({name})"))


def check_surplus(weights: Mapping, dialect: Dialect) -> None:
    """Log the tensors that no canonical name stands for.

    Args:
        weights (Mapping): The file.
        dialect (Dialect): Its dialect.
    """
    known = set(dialect.known(weights))
    surplus = [
        key for key in weights if key not in known and not any(
            re.fullmatch(pattern, key) for pattern in dialect.ignored)
    ]
    if surplus:
        print_log(
            f'{len(surplus)} tensors of the {dialect.name} teacher are left '
            f'out, such as {surplus[:6]}: they have no canonical name. If '
            'its blocks need them, it is of another kind than it seems.',
            logger='current',
            level=30)
