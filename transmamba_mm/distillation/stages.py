"""The stages of a training with a teacher."""
import difflib
from dataclasses import dataclass, fields
from typing import List, Optional, Sequence, Tuple

KINDS = ('calibration', 'distillation', 'finetune')


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Args:
        kind (str): What happens:

            - 'calibration': the student stays as it is, only the aligner
              learns.
            - 'distillation': the student learns from teacher and task.
            - 'finetune': the student learns its task, without the teacher.
        epochs (float, optional): Length; None lasts to the end. Defaults to
            None.
        warmup_epochs (float): The scale of the distillation terms rises
            linearly from 0 to 1 over so many epochs of a 'distillation'.
            Defaults to 0.
    """
    kind: str
    epochs: Optional[float] = None
    warmup_epochs: float = 0

    def __post_init__(self) -> None:
        where = 'stages of BidirectionalDistillHook'
        if self.kind not in KINDS:
            near = difflib.get_close_matches(str(self.kind), KINDS, 1)
            hint = f"; did you mean '{near[0]}'?" if near else '.'
            raise ValueError(f"{where}: kind='{self.kind}' is unknown, use "
                             f'one of {KINDS}{hint}')
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f'{where}: epochs={self.epochs}, but it must be '
                             'positive.')
        if self.warmup_epochs < 0 or (self.warmup_epochs > 0
                                      and self.kind != 'distillation'):
            raise ValueError(
                f'{where}: warmup_epochs={self.warmup_epochs} in a stage of '
                f"kind '{self.kind}', but it must not be negative, and only "
                "'distillation' takes it.")

    @property
    def needs_teacher(self) -> bool:
        """bool: Whether the teacher is run."""
        return self.kind != 'finetune'

    def scale(self, epoch: float) -> float:
        """Scale of the distillation terms at the end of an iteration.

        Args:
            epoch (float): Epochs of this stage that are then done.

        Returns:
            float: In [0, 1].
        """
        if not self.needs_teacher:
            return 0.
        if not self.warmup_epochs:
            return 1.
        return min(1., epoch / self.warmup_epochs)


def parse_stages(stages: Optional[Sequence[dict]],
                 warmup_epochs: float = 0,
                 stop_epoch: Optional[float] = None) -> List[Stage]:
    """Read the stages out of a hook's arguments.

    Args:
        stages (Sequence[dict], optional): Arguments of :class:`Stage`, one
            dict a stage; None makes one distillation.
        warmup_epochs (float): Its warm-up. Defaults to 0.
        stop_epoch (float, optional): Epoch from which it is over. Defaults
            to None.

    Returns:
        List[Stage]: At least one.

    Raises:
        ValueError: On stages that do not make sense.
    """
    where = 'BidirectionalDistillHook'
    if stages is None:
        first = Stage('distillation', stop_epoch or None, warmup_epochs)
        if stop_epoch is None:
            return [first]
        return [first] * (stop_epoch > 0) + [Stage('finetune')]
    if warmup_epochs or stop_epoch is not None:
        raise ValueError(
            f'{where} got `stages` beside `warmup_epochs` or `stop_epoch`; '
            "write these into the stages, such as dict(kind='distillation', "
            'epochs=20, warmup_epochs=1).')
    if not stages:
        raise ValueError(f'{where}.stages is empty; leave it out for a '
                         'distillation from the start to the end.')
    allowed = {f.name for f in fields(Stage)}
    for stage in stages:
        if not isinstance(stage, dict) or 'kind' not in stage or \
                set(stage) - allowed:
            raise ValueError(
                f'{where}.stages holds {stage!r}, but each must be a dict '
                f'with `kind` and, if needed, others of {sorted(allowed)}.')
    out = [Stage(**stage) for stage in stages]
    if any(stage.epochs is None for stage in out[:-1]):
        raise ValueError(f'{where}.stages: only the last stage may leave '
                         '`epochs` out, which makes it last to the end.')
    return out


def find_stage(stages: Sequence[Stage], epoch: float) -> Tuple[int, float]:
    """Find the stage in which an iteration falls.

    Args:
        stages (Sequence[Stage]): The stages.
        epoch (float): Epochs done after the iteration, so that the first
            epoch runs over (0, 1].

    Returns:
        Tuple[int, float]: Index of the stage, and the epochs of it that are
        then done. After the last stage's end this stage goes on.
    """
    begin = 0.
    for i, stage in enumerate(stages):
        end = begin + (stage.epochs or float('inf'))
        # fractions of epochs, so a little off
        if epoch <= end + 1e-9 or i == len(stages) - 1:
            return i, epoch - begin
        begin = end


def check_length(stages: Sequence[Stage], epochs: float) -> None:
    """Refuse stages that do not fit the length of a training.

    Args:
        stages (Sequence[Stage]): The stages.
        epochs (float): Length of the training.

    Raises:
        ValueError: If the training ends before a stage begins, or goes on
            after the last.
    """
    begin = 0.
    for i, stage in enumerate(stages):
        if begin >= epochs:
            raise ValueError(
                f'BidirectionalDistillHook.stages[{i}] ({stage.kind}) begins '
                f'after epoch {begin:g}, but the training has {epochs:g}: '
                'raise train_cfg.max_epochs, or shorten the stages.')
        begin += stage.epochs or float('inf')
    if begin < epochs - 1e-9:
        raise ValueError(
            f'BidirectionalDistillHook.stages cover {begin:g} epochs, but the '
            f'training has {epochs:g}: leave `epochs` of the last stage out, '
            'or lower train_cfg.max_epochs.')
