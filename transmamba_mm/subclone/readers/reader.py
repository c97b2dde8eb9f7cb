"""Read a Transformer's weights, whichever library wrote them."""
import difflib
import math
import re
from functools import partial
from typing import Callable, Dict, Mapping, Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from transmamba_mm.utils.towers import tower_name
from transmamba_mm.utils.weight_files import WeightFile, open_weights
from ..teacher_state import CANONICAL_NAMES, Entry, TeacherState
from .bert import BERT
from .checks import (check_blocks, check_dtypes, check_family, check_plain,
                     check_surplus)
from .dialect import Dialect
from .hf_clip import HF_CLIP
from .hf_vit import HF_VIT
from .info import teacher_info
from .llama import LLAMA
from .llava import LLAVA
from .mmpretrain import MMPRETRAIN
from .open_clip import OPEN_CLIP
from .timm import TIMM

#: All that can be read; the first one that fits counts.
DIALECTS: Tuple[Dialect, ...] = (MMPRETRAIN, TIMM, HF_VIT, OPEN_CLIP, LLAVA,
                                 HF_CLIP, BERT, LLAMA)


def read_teacher(source: Union[str, Mapping],
                 tower: Optional[str] = None) -> TeacherState:
    """Read a Transformer's weights under canonical names.

    Args:
        source (str | Path | Mapping): File, folder or URL, see
            :func:`~transmamba_mm.utils.weight_files.open_weights`, or the
            state dict itself. Of MMPretrain, timm, official DeiT, Hugging
            Face (ViT, DeiT, DINOv2, CLIP, BERT, LLaMA, LLaVA), open_clip or
            OpenAI's CLIP.
        tower (str, optional): 'vision' (or 'visual'), 'text' (or 'language')
            or 'projector', where a file holds several. None takes the first
            of these that it holds. Defaults to None.

    Returns:
        TeacherState: Canonical name to tensor, read when it is asked for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the layout is not known, tensors of a block are
            missing, the weights are quantised, or there is no such tower.
    """
    weights = open_weights(source)
    check_plain(weights)
    dialect, towers = _recognise(weights)
    check_family(weights, dialect)
    name = _choose(tower, dialect, towers)
    entries = towers[name]
    if name != 'projector':
        check_blocks(entries, dialect, name)
    check_dtypes(entries, weights)
    check_surplus(weights, dialect)
    _tie_head(entries, weights, dialect)
    _pad_positions(entries, weights)
    return TeacherState(
        weights, dict(sorted(entries.items(), key=_rank)),
        teacher_info(dialect.name, name, tuple(towers), weights))


def _recognise(weights: WeightFile) -> Tuple[Dialect, Dict[str, dict]]:
    """Find the dialect and the towers of a file."""
    for dialect in DIALECTS:
        towers = dialect.read(weights)
        if towers:
            return dialect, towers
    near = _nearest_dialect(weights)
    raise ValueError(
        f'The weights are of no known layout: found {len(weights)} tensors '
        f'{sorted(weights)[:6]}. Transformers of '
        f'{[dialect.name for dialect in DIALECTS]} can be read; the nearest '
        f"is {near.name}, whose tensors are named like '{near.example}'.")


def _nearest_dialect(weights: WeightFile) -> Dialect:
    """Compare the names with each dialect's typical one."""
    names = list(dict.fromkeys(re.sub(r'\d+', '0', n) for n in weights))

    def likeness(dialect: Dialect) -> float:
        matcher = difflib.SequenceMatcher(b=dialect.example, autojunk=False)
        best = 0.
        for name in names[:300]:
            matcher.set_seq1(name)
            if matcher.quick_ratio() > best:
                best = max(best, matcher.ratio())
        return best

    return max(DIALECTS, key=likeness)


def _choose(tower: Optional[str], dialect: Dialect, towers: Dict[str,
                                                                 dict]) -> str:
    """Tell which tower is read."""
    found = list(towers)
    if tower is None:
        if found[0] != dialect.towers[0].name or len(found) > 1:
            print_log(
                f"Tower '{found[0]}' of the {dialect.name} teacher is read, "
                f'which holds {found}. Choose with `tower`.',
                logger='current')
        return found[0]
    name = tower_name(tower)
    if name not in towers:
        raise ValueError(f"tower='{tower}': the {dialect.name} teacher holds "
                         f'the towers {found}; `tower` must be one of them.')
    return name


def _tie_head(entries: Dict[str, Entry], weights: WeightFile,
              dialect: Dialect) -> None:
    """Give a language model its output words, where they are its input's.

    A decoder alone has no head; its names lack the 'model.' of the whole.
    """
    if dialect.name not in ('LLaMA', 'LLaVA') or 'head.weight' in entries \
            or 'layers.0.gate.weight' not in entries:
        return
    config = getattr(weights, 'configs', {}).get('config.json', {})
    config = {**config, **(config.get('text_config') or {})}
    tied = config.get('tie_word_embeddings', True)
    words = entries.get('token_embed.weight')
    if tied and words is not None and 'model.' in words.key:
        entries['head.weight'] = words


def _rank(item: Tuple[str, Entry]) -> Tuple[int, int]:
    """Order tensors alike for all dialects, block by block.

    Sums over them are then equal to the last bit.
    """
    name, block = item[0], re.match(r'layers\.(\d+)', item[0])
    if block is None:
        return -1, CANONICAL_NAMES.index(name)
    name = name.replace(block.group(), 'layers.{i}')
    return int(block.group(1)), CANONICAL_NAMES.index(name)


def _pad_positions(entries: Dict[str, Entry], weights: WeightFile) -> None:
    """Give class and distillation token a position of zero if they have none.

    That is what their not having one means.
    """
    entry = entries.get('pos_embed')
    extra = sum(name in entries for name in ('cls_token', 'dist_token'))
    if entry is None or not extra:
        return
    positions = TeacherState(weights, entries).shape('pos_embed')[1]

    def is_square(number: int) -> bool:
        return math.isqrt(max(number, 0))**2 == number

    if is_square(positions) and not is_square(positions - extra):
        entries['pos_embed'] = Entry(
            entry.key, partial(_pad, extra=extra, form=entry.form))


def _pad(tensor: Tensor, extra: int,
         form: Optional[Callable[[Tensor], Tensor]]) -> Tensor:
    """Put positions of zero before the others."""
    tensor = tensor if form is None else form(tensor)
    return torch.cat([torch.zeros_like(tensor[:, :1])] * extra + [tensor], 1)
