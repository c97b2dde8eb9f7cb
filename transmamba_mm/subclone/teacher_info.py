"""What a teacher's blocks do, which its tensors do not tell."""
from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class TeacherInfo:
    """What is known of a teacher beside its tensors.

    Args:
        dialect (str): Library whose names the file has, such as 'timm'.
        tower (str): 'vision', 'text' or 'projector'.
        towers (Tuple[str, ...]): All that the file holds.
        activation (str, optional): Of the MLPs: 'gelu', 'quick_gelu' (of
            OpenAI's CLIP), 'gelu_new', 'relu', 'silu', ... None if neither
            file nor folder tells.
        mean (Tuple[float, ...], optional): What is taken off the pixels, for
            pixels from 0 to 1; None if the folder does not tell.
        std (Tuple[float, ...], optional): What they are divided by then.
        num_heads (int, optional): Attention heads.
        num_kv_heads (int, optional): Heads of k and v, fewer if several
            heads of q share one.
        norm (str): 'layer' or 'rms'.
        norm_first (bool): Whether the norms come before attention and MLP;
            in BERT they come after the residual sum.
    """
    dialect: str = ''
    tower: str = 'vision'
    towers: Tuple[str, ...] = ('vision', )
    activation: Optional[str] = None
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    num_heads: Optional[int] = None
    num_kv_heads: Optional[int] = None
    norm: str = 'layer'
    norm_first: bool = True
