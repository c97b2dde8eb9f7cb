"""Which student tensor is cloned from which teacher tensor."""
import difflib
import re
from dataclasses import dataclass, field, fields
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Union

from .depth_map import map_depth
from .teacher_state import CANONICAL_NAMES

#: Meaning of a tensor's axis: 'residual' is the residual stream, 'inner' the
#: attention heads' channels, 'mlp' the hidden units, 'keep' all others.
AXES = ('residual', 'inner', 'mlp', 'keep')
KINDS = ('plain', 'tokens', 'kernel', 'scores')


@dataclass(frozen=True)
class Rule:
    """One line of a plan.

    Args:
        target (str): Student tensor, '{i}' for the block's number, or '{i}'
            and '{j}' for its stage and its number there; alternatives are
            separated by '|'.
        source (str): Canonical teacher tensor, '{i}' for the block's number.
        axes (Tuple[str, ...]): Meaning of each axis.
        half (bool): Whether only the first half of the target's first axis
            is filled (the inner stream of ``in_proj``, not its gate); a
            mixer without gate is filled whole. Defaults to False.
        kind (str): 'plain', 'tokens' (resized as a picture), 'kernel'
            (only copied if the kernel size agrees) or 'scores' (the rows of
            B and C in ``x_proj``, from the teacher's K and Q; the source is
            K). Defaults to 'plain'.
    """
    target: str
    source: str
    axes: Tuple[str, ...]
    half: bool = False
    kind: str = 'plain'

    def match(self, name: str) -> Optional['re.Match']:
        """Compare the target with a student tensor's name.

        Args:
            name (str): Student tensor.

        Returns:
            re.Match, optional: Its groups are the numbers of stage and
            block, if the target has them. None if the rule is for other
            tensors.
        """
        for target in self.target.split('|'):
            pattern = re.sub(r'\\\{[ij]\\\}', r'(\\d+)', re.escape(target))
            match = re.fullmatch(pattern, name)
            if match:
                return match
        return None


def _pair(target: str, source: str, axes: Tuple[str, ...],
          **kwargs: Any) -> List[Rule]:
    """Rules for a weight and its bias, which has the first axis."""

    def name(text: str, suffix: str) -> str:
        return '|'.join(f'{t}.{suffix}' for t in text.split('|'))

    return [
        Rule(name(target, 'weight'), name(source, 'weight'), axes, **kwargs),
        Rule(name(target, 'bias'), name(source, 'bias'), axes[:1], **kwargs)
    ]


#: A columnar student's blocks, and those of one with stages.
_BLOCKS = 'layers.{i}.%s|layers.{i}.blocks.{j}.%s'

#: The gated MLPs of language models that have some beside their mixers.
_GATED = 'layers.{i}.mlp.%s_proj|layers.{i}.feed_forward.%s_proj'

_SAFE = [
    *_pair(
        'patch_embed.proj',
        'patch_embed', ('residual', 'keep', 'keep', 'keep'),
        kind='kernel'),
    Rule('cls_token', 'cls_token', ('keep', 'keep', 'residual')),
    Rule(
        'pos_embed', 'pos_embed', ('keep', 'keep', 'residual'), kind='tokens'),
    *_pair(_BLOCKS % ('norm', 'norm'), 'layers.{i}.norm1', ('residual', )),
    *_pair(_BLOCKS % ('norm2', 'norm2'), 'layers.{i}.norm2', ('residual', )),
    *_pair(_BLOCKS % ('mlp.fc1', 'mlp.fc1'), 'layers.{i}.fc1',
           ('mlp', 'residual')),
    *_pair(_BLOCKS % ('mlp.fc2', 'mlp.fc2'), 'layers.{i}.fc2',
           ('residual', 'mlp')),
    *_pair('norm_f|ln1|norm|classifier.norm', 'final_norm', ('residual', )),
    *_pair('head.fc|head.layers.head|lm_head', 'head', ('keep', 'residual')),
    # language models
    Rule('embeddings.weight|embed_tokens.weight', 'token_embed.weight',
         ('keep', 'residual')),
    *_pair(_GATED % ('gate', 'gate'), 'layers.{i}.gate', ('mlp', 'residual')),
    *_pair(_GATED % ('up', 'up'), 'layers.{i}.up', ('mlp', 'residual')),
    *_pair(_GATED % ('down', 'down'), 'layers.{i}.down', ('residual', 'mlp')),
]

_MIXERS = ('layers.{i}.mixer.%s|layers.{i}.mamba.%s|'
           'layers.{i}.blocks.{j}.op.%s')

_LINEAR = _SAFE + [
    *_pair(
        _MIXERS.replace('%s', 'in_proj'),
        'layers.{i}.v', ('inner', 'residual'),
        half=True),
    *_pair(
        _MIXERS.replace('%s', 'out_proj'), 'layers.{i}.o',
        ('residual', 'inner')),
]

_QKV_TO_SSM = _LINEAR + [
    Rule(
        '|'.join(
            _MIXERS.replace('%s', name)
            for name in ('x_proj.weight', 'x_proj_b.weight', 'x_proj_weight')),
        'layers.{i}.k.weight', ('keep', 'inner'),
        kind='scores')
]

#: Rules of each preset.
PRESETS = dict(none=[], safe=_SAFE, linear=_LINEAR, qkv_to_ssm=_QKV_TO_SSM)


@dataclass
class SubclonePlan:
    """What is cloned, and how.

    Source: TransMamba, weight subcloning (everything but the state space
    parameters, the important units only). The paper gives no tensor map, no
    layer map and no number of layers: all of these are our choice.

    Args:
        preset (str): Rules to start from:

            - 'safe': norms, patch and position embedding, class token, MLPs
              where the student has them, and the head if the classes agree;
              of a language model, input and output words.
            - 'linear': these, the inner half of ``in_proj`` from V and
              ``out_proj`` from the attention's output projection; the gate
              half keeps its own initialisation.
            - 'qkv_to_ssm': these, and B from K and C from Q (after
              MambaInLlama, which is about language). A Mamba-2 makes them
              from the block's input by rows of ``in_proj``, which get the
              factors below as they are, all groups the same. Else,
              ``in_proj`` makes the
              inner stream with its first half of rows and the gate with its
              second. V fills the first rows of the inner stream: with the
              usual expand = 2 and a teacher as wide as the student, the
              first half of it. The rest and the gate keep their own
              initialisation. Since B and C are projections of the convolved
              inner stream, of the state's size, they get the best
              factorisation of the scores Q^T K of that rank, expressed
              through ``in_proj`` and the convolution, and scaled to the
              norm of the rows that they replace; positions and biases of Q
              and K are left out. The step size keeps its own. A large
              kernel hides the tokens from B and C, as PlainMamba's of 7 x 7
              does at first; the report says how much is seen.
            - 'none': nothing.

            Defaults to 'safe'.
        exclude (str | Sequence[str]): Student tensors to leave alone, as
            parts of their names, such as 'pos_embed' or 'layers.0.'.
            Defaults to ().
        rules (Sequence[dict]): Further rules, as dicts of :class:`Rule`'s
            arguments; they go before the preset's. Defaults to ().
        first_n (int | str, optional): Only the first so many student blocks
            are cloned, and all that is no block; None means half of them,
            -1 or 'all' all. Defaults to None.
        depth_map (str | Sequence[int]): 'proportional' clones student block
            l of N_s from teacher block floor(l * N_t / N_s); 'first_n' and
            'last_n' clone the n student blocks of the argument ``first_n``
            from the first or the last n teacher blocks, one for one; a
            sequence names one teacher block a student block. Defaults to
            'proportional'.
        rescale (bool): Whether a weight whose input units are cut from d_t
            to d_s is multiplied by sqrt(d_t / d_s), which keeps the variance
            of the output. Defaults to False.
        num_heads (int, optional): Attention heads of the teacher, which are
            kept whole; None means what a teacher of text tells, and else
            one for 64 channels. Defaults to None.
        num_groups (int): Groups of B and C of a Mamba-2 student. Defaults to
            1.
        teacher_grid (Tuple[int, int], optional): Rows and columns of the
            teacher's position embedding; None means the student's if the
            number of positions agrees, and else a square. Defaults to None.

    Raises:
        ValueError: On an unknown preset or a wrong rule.
    """
    preset: str = 'safe'
    exclude: Union[str, Sequence[str]] = ()
    rules: Sequence[dict] = ()
    first_n: Union[int, str, None] = None
    depth_map: Union[str, Sequence[int]] = 'proportional'
    rescale: bool = False
    num_heads: Optional[int] = None
    num_groups: int = 1
    teacher_grid: Optional[Tuple[int, int]] = None
    all_rules: List[Rule] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(
                f"WeightSubcloneHook.plan: preset '{self.preset}' is unknown; "
                f'use one of {sorted(PRESETS)}, a list of rules, or a dict '
                f'with the keys {self.keys()}.')
        if isinstance(self.exclude, str):
            self.exclude = (self.exclude, )
        own = [_read_rule(rule) for rule in self.rules]
        self.all_rules = own + list(PRESETS[self.preset])

    @classmethod
    def keys(cls) -> List[str]:
        """List the keys that a plan in a config may have.

        Returns:
            List[str]: Argument names.
        """
        return [f.name for f in fields(cls) if f.init]

    @classmethod
    def from_config(cls, plan: Union[str, dict, Sequence[dict]],
                    **kwargs: Any) -> 'SubclonePlan':
        """Read a plan from a config.

        Args:
            plan (str | dict | Sequence[dict]): Name of a preset, a dict of
                this class's arguments, or rules alone.
            **kwargs: Arguments for what the plan does not give itself.

        Returns:
            SubclonePlan: The plan.

        Raises:
            ValueError: On an unknown preset, key or rule.
            TypeError: If ``plan`` is something else.
        """
        if isinstance(plan, str):
            plan = dict(preset=plan)
        elif isinstance(plan, (list, tuple)):
            plan = dict(preset='none', rules=plan)
        elif not isinstance(plan, dict):
            raise TypeError(
                f'WeightSubcloneHook.plan={plan!r} must be one of '
                f'{sorted(PRESETS)}, a list of rules, or a dict with the keys '
                f'{cls.keys()}.')
        for key in plan:
            if key not in cls.keys():
                raise ValueError(
                    f"WeightSubcloneHook.plan has no key '{key}'; "
                    f'{nearest(key, cls.keys())} It may have {cls.keys()}.')
        return cls(**{**kwargs, **plan})

    def check_student(self, names: Iterable[str]) -> None:
        """Check that what the user wrote is about this student.

        Args:
            names (Iterable[str]): The student's tensors.

        Raises:
            ValueError: If an own rule or an exclusion fits no tensor.
        """
        names = list(names)
        for part in self.exclude:
            if not any(part in name for name in names):
                raise ValueError(
                    f"WeightSubcloneHook.plan.exclude: '{part}' is part of no "
                    f'student tensor. {nearest(part, names)}')
        for rule in self.all_rules[:len(self.rules)]:
            if not any(rule.match(name) for name in names):
                general = [
                    re.sub(r'(?<=\.blocks\.)\d+', '{j}',
                           re.sub(r'^layers\.\d+', 'layers.{i}', n))
                    for n in names
                ]
                raise ValueError('WeightSubcloneHook.plan.rules: the target '
                                 f"'{rule.target}' fits no student tensor. "
                                 f'{nearest(rule.target, general)}')

    def cloned_layers(self, student_depth: int) -> int:
        """Count the student blocks that are cloned.

        Args:
            student_depth (int): Number of student blocks.

        Returns:
            int: n.

        Raises:
            ValueError: If ``first_n`` is out of range.
        """
        if self.first_n is None:
            return student_depth // 2
        if self.first_n in (-1, 'all'):
            return student_depth
        if self.first_n not in range(student_depth + 1):
            raise ValueError(
                f'WeightSubcloneHook.first_n={self.first_n!r}, but the '
                f'student has {student_depth} blocks: use 0 to '
                f"{student_depth}, or -1 or 'all' for all.")
        return int(self.first_n)

    def block_map(self, student_depth: int,
                  teacher_depth: int) -> Tuple[int, ...]:
        """Map student blocks to teacher blocks.

        Args:
            student_depth (int): Number of student blocks N_s.
            teacher_depth (int): Number of teacher blocks N_t.

        Returns:
            Tuple[int, ...]: N_s teacher block numbers.

        Raises:
            ValueError: If ``depth_map`` does not fit.
        """
        return map_depth(self.depth_map, student_depth, teacher_depth,
                         self.cloned_layers(student_depth))


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which names look like a wrong one.

    Args:
        name (str): What was written.
        known (Iterable[str]): What might have been meant.

    Returns:
        str: A sentence.
    """
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.3)
    return f'The nearest names are {near or known[:8]}.'


def _read_rule(rule: dict) -> Rule:
    """Turn a rule of a config into a ``Rule``."""
    where = 'WeightSubcloneHook.plan.rules'
    try:
        rule = Rule(**{**rule, 'axes': tuple(rule['axes'])})
    except (TypeError, KeyError) as error:
        raise ValueError(
            f'{where} holds {rule!r}, which is no rule: {error}. A rule is a '
            f'dict with the keys {[f.name for f in fields(Rule)]}.') from error
    if not rule.axes or not set(rule.axes) <= set(AXES):
        raise ValueError(f"{where}: the axes {rule.axes} of '{rule.target}' "
                         f'must name each axis by one of {AXES}.')
    if rule.kind not in KINDS:
        raise ValueError(f"{where}: kind='{rule.kind}' of '{rule.target}' "
                         f'must be one of {KINDS}.')
    if rule.kind == 'scores' and not (rule.source.endswith('.k.weight') and
                                      all('.x_proj' in t
                                          for t in rule.target.split('|'))):
        raise ValueError(
            f"{where}: kind='scores' fills x_proj from 'layers.{{i}}.k.weight'"
            f", not '{rule.target}' from '{rule.source}'.")
    if rule.source not in CANONICAL_NAMES:
        raise ValueError(f"{where}: no teacher has a tensor '{rule.source}'. "
                         f'{nearest(rule.source, CANONICAL_NAMES)}')
    if '{i}' not in rule.source and {'inner', 'mlp'} & set(rule.axes):
        raise ValueError(
            f"{where}: '{rule.source}' is in no block, so that none of its "
            f"axes {rule.axes} can be 'inner' or 'mlp'.")
    in_block = ['{i}' in t for t in rule.target.split('|')]
    if in_block != ['{i}' in rule.source] * len(in_block):
        raise ValueError(
            f"{where}: '{rule.target}' and '{rule.source}' must both hold the "
            "block's number as '{i}', or neither.")
    return rule
