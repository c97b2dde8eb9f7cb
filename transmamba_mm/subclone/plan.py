"""Which student tensor is cloned from which teacher tensor."""
import difflib
from dataclasses import dataclass, field, fields
from typing import List, Optional, Sequence, Tuple, Union

#: Meaning of a tensor's axis: 'residual' is the residual stream, 'inner' the
#: attention heads' channels, 'mlp' the hidden units, 'keep' all others.
AXES = ('residual', 'inner', 'mlp', 'keep')


@dataclass(frozen=True)
class Rule:
    """One line of a plan.

    Args:
        target (str): Student tensor, '{i}' for the block's number;
            alternatives are separated by '|'.
        source (str): Canonical teacher tensor, '{i}' likewise.
        axes (Tuple[str, ...]): Meaning of each axis.
        half (bool): Whether only the first half of the target's first axis
            is filled (the inner stream of ``in_proj``, not its gate).
            Defaults to False.
        kind (str): 'plain', 'tokens' (resized as a picture) or 'kernel'
            (only copied if the kernel size agrees). Defaults to 'plain'.
    """
    target: str
    source: str
    axes: Tuple[str, ...]
    half: bool = False
    kind: str = 'plain'

    @property
    def targets(self) -> List[str]:
        """List[str]: The alternatives."""
        return self.target.split('|')


def _pair(target: str, source: str, axes: Tuple[str, ...],
          **kwargs) -> List[Rule]:
    """Rules for a weight and its bias, which has the first axis."""

    def name(text, suffix):
        return '|'.join(f'{t}.{suffix}' for t in text.split('|'))

    return [
        Rule(name(target, 'weight'), name(source, 'weight'), axes, **kwargs),
        Rule(name(target, 'bias'), name(source, 'bias'), axes[:1], **kwargs)
    ]


_SAFE = [
    *_pair('patch_embed.proj', 'patch_embed',
           ('residual', 'keep', 'keep', 'keep'), kind='kernel'),
    Rule('cls_token', 'cls_token', ('keep', 'keep', 'residual')),
    Rule(
        'pos_embed',
        'pos_embed', ('keep', 'keep', 'residual'),
        kind='tokens'),
    *_pair('layers.{i}.norm', 'layers.{i}.norm1', ('residual', )),
    *_pair('layers.{i}.norm2', 'layers.{i}.norm2', ('residual', )),
    *_pair('layers.{i}.mlp.fc1', 'layers.{i}.fc1', ('mlp', 'residual')),
    *_pair('layers.{i}.mlp.fc2', 'layers.{i}.fc2', ('residual', 'mlp')),
    *_pair('norm_f|ln1|norm', 'final_norm', ('residual', )),
    *_pair('head.fc|head.layers.head', 'head', ('keep', 'residual')),
]

_MIXERS = 'layers.{i}.mixer.%s|layers.{i}.mamba.%s'

_LINEAR = _SAFE + [
    *_pair(
        _MIXERS.replace('%s', 'in_proj'),
        'layers.{i}.v', ('inner', 'residual'),
        half=True),
    *_pair(
        _MIXERS.replace('%s', 'out_proj'), 'layers.{i}.o',
        ('residual', 'inner')),
]

#: Rules of each preset.
PRESETS = dict(none=[], safe=_SAFE, linear=_LINEAR)


@dataclass
class SubclonePlan:
    """What is cloned, and how.

    Source: TransMamba, weight subcloning (everything but the state space
    parameters, the important units only). The paper gives no tensor map, no
    layer map and no number of layers: all of these are our choice.

    Args:
        preset (str): Rules to start from:

            - 'safe': norms, patch and position embedding, class token, MLPs
              where the student has them, and the head if the classes agree.
            - 'linear': these, the inner half of ``in_proj`` from V and
              ``out_proj`` from the attention's output projection; the gate
              half keeps its own initialisation.
            - 'none': nothing.

            Defaults to 'safe'.
        exclude (Sequence[str]): Student tensors to leave alone, as parts of
            their names, such as 'pos_embed' or 'layers.0.'. Defaults to ().
        rules (Sequence[dict]): Further rules, as dicts of :class:`Rule`'s
            arguments. Defaults to ().
        first_n (int, optional): Only the first so many student blocks are
            cloned; None means half of them, -1 all. Defaults to None.
        depth_map (str | Sequence[int]): 'proportional' clones student block
            l of N_s from teacher block floor(l * N_t / N_s); a sequence names
            one teacher block a student block. Defaults to 'proportional'.
        rescale (bool): Whether a weight whose input units are cut from d_t
            to d_s is multiplied by sqrt(d_t / d_s), which keeps the variance
            of the output. Defaults to False.
        num_heads (int, optional): Attention heads of the teacher, which are
            kept whole; None means one for 64 channels. Defaults to None.
    """
    preset: str = 'safe'
    exclude: Sequence[str] = ()
    rules: Sequence[Union[Rule, dict]] = ()
    first_n: Optional[int] = None
    depth_map: Union[str, Sequence[int]] = 'proportional'
    rescale: bool = False
    num_heads: Optional[int] = None
    all_rules: List[Rule] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(
                f"WeightSubcloneHook.plan: preset '{self.preset}' is unknown; "
                f'use one of {sorted(PRESETS)}, or a dict with the keys '
                f'{self.keys()}.')
        own = [r if isinstance(r, Rule) else _read_rule(r) for r in self.rules]
        self.all_rules = own + list(PRESETS[self.preset])

    @classmethod
    def keys(cls) -> List[str]:
        """List the keys that a plan in a config may have.

        Returns:
            List[str]: Argument names.
        """
        return [f.name for f in fields(cls) if f.init]

    @classmethod
    def from_config(cls, plan: Union[str, dict, 'SubclonePlan'],
                    **kwargs) -> 'SubclonePlan':
        """Read a plan from a config.

        Args:
            plan (str | dict | SubclonePlan): Name of a preset, or a dict of
                this class's arguments.
            **kwargs: Arguments that the plan does not give itself.

        Returns:
            SubclonePlan: The plan.

        Raises:
            ValueError: On an unknown preset, key or rule.
        """
        if isinstance(plan, SubclonePlan):
            return plan
        if isinstance(plan, str):
            plan = dict(preset=plan)
        for key in plan:
            if key not in cls.keys():
                near = difflib.get_close_matches(key, cls.keys(), n=1)
                hint = f"did you mean '{near[0]}'? " if near else ''
                raise ValueError(
                    f"WeightSubcloneHook.plan has no key '{key}'; {hint}"
                    f'It may have {cls.keys()}.')
        return cls(**{**kwargs, **plan})

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
        if not -1 <= self.first_n <= student_depth:
            raise ValueError(
                f'WeightSubcloneHook.first_n={self.first_n}, but the student '
                f'has {student_depth} blocks: use 0 to {student_depth}, or '
                '-1 for all.')
        return student_depth if self.first_n == -1 else self.first_n

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
        if self.depth_map == 'proportional':
            return tuple(i * teacher_depth // student_depth
                         for i in range(student_depth))
        where = f'WeightSubcloneHook.depth_map={self.depth_map!r}'
        if isinstance(self.depth_map, str):
            raise ValueError(f"{where} is unknown; use 'proportional' or one "
                             'teacher block for each student block.')
        if len(self.depth_map) != student_depth or not all(
                0 <= j < teacher_depth for j in self.depth_map):
            raise ValueError(
                f'{where} must hold {student_depth} numbers from 0 to '
                f'{teacher_depth - 1}, one teacher block for each student '
                'block.')
        return tuple(self.depth_map)


def _read_rule(rule: dict) -> Rule:
    try:
        rule = Rule(**{**rule, 'axes': tuple(rule.get('axes', ()))})
    except TypeError as error:
        raise ValueError(
            f'WeightSubcloneHook.plan.rules holds {rule}, which is no rule: '
            f'{error}. A rule has the keys '
            f'{[f.name for f in fields(Rule)]}.') from error
    bad = [a for a in rule.axes if a not in AXES]
    if bad or not rule.axes:
        raise ValueError(
            f'WeightSubcloneHook.plan.rules: axes {rule.axes} of '
            f"'{rule.target}' must name each axis by one of {AXES}.")
    return rule
