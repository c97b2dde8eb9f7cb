"""Which trainings make up the tables of text-video retrieval.

The chance level stands beside each result, as ``retrieval/chance_R@1`` of its
``metrics``: 100 over the size of the gallery.
"""
from dataclasses import dataclass
from typing import ClassVar, Dict, List, Optional

from row import Row

METHODS = ('scratch', 'subclone', 'distill', 'transmamba')
FOLDER = 'configs/transmamba/retrieval'

#: Options of a recipe by which a variant differs.
VARIANTS: Dict[str, Dict[str, object]] = {
    '': {},
    'seq': {},
    'cross-mamba': {},
    # a teacher that sees frames one by one does not know their order
    'features only': {
        'model.similarity_weight': 0
    },
    'similarities only': {
        'model.distiller.alpha': 0
    },
    'lr 5e-4': {
        'optim_wrapper.optimizer.lr': 5e-4
    },
    'lr 2e-3': {
        'optim_wrapper.optimizer.lr': 2e-3
    },
    'same are negatives': {
        'model.head.ignore_same': False
    },
}
HEADS = ('seq', 'cross-mamba')


@dataclass(frozen=True)
class Retrieval(Row):
    """One training of text-video retrieval, scored on the test clips.

    Args:
        *args: As ``Row``.
        teacher_fraction (float): Share of the videos that the teacher saw.
            Defaults to 1.
        **kwargs: As ``Row``.
    """
    teacher_fraction: float = 1.

    task: ClassVar[str] = 'retrieval'
    metric: ClassVar[str] = 'retrieval/t2v_R@1'
    graph: ClassVar[bool] = True
    size: ClassVar[int]
    recipe: ClassVar[str]

    @property
    def name(self) -> str:
        """str: Name of the work folder."""
        if self.teacher_fraction == 1:
            return super().name
        return f'{super().name}_teacher{self.teacher_fraction:g}'

    @property
    def teacher_label(self) -> str:
        """str: The teacher and its share of the videos."""
        return self.teacher and f'{self.teacher} ({self.teacher_fraction:.0%})'

    @property
    def is_teacher(self) -> bool:
        """bool: Whether it is a CLIP4Clip in the making."""
        return self.student.startswith('clip')

    @property
    def config(self) -> str:
        """str: Path of the recipe."""
        parts = [] if self.method == 'scratch' else [self.method]
        parts.append(self.student)
        if self.variant in HEADS:
            parts.append(self.variant)
        if self.teacher:
            parts.append(f'{self.teacher}-pre')
        return f'{FOLDER}/{"_".join(parts)}_{self.recipe}.py'

    @property
    def needs(self) -> Dict[str, str]:
        """Dict[str, str]: The teacher's folder, which its training writes
        into the work folder."""
        if not self.teacher:
            return {}
        teacher = type(self)(self.teacher, 'scratch', self.teacher_fraction, 0,
                             self.epochs)
        return dict(TEACHER=f'{teacher.name}/open_clip')

    def data_options(self, root: str) -> Dict[str, object]:
        """Return where the clips are; validation takes those of the test.

        Args:
            root (str): Folder that the converter wrote.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        return {
            'train_dataloader.dataset.data_root': root,
            'train_dataloader.dataset.fraction': self.fraction,
            'val_dataloader.dataset.data_root': root,
            'val_dataloader.dataset.ann_file': 'test.jsonl',
        }

    def options(self) -> Dict[str, object]:
        """Return what differs from the recipe.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        return dict(VARIANTS[self.variant])


@dataclass(frozen=True)
class Exercises(Retrieval):
    """Two real frames of an exercise, interpolated; one gallery of 100."""
    data: ClassVar[str] = 'exercises (two real frames, interpolated)'
    data_root: ClassVar[str] = 'data/exercises'
    size: ClassVar[int] = 112
    recipe: ClassVar[str] = '1xb64-150e_exercises'


@dataclass(frozen=True)
class Motion(Retrieval):
    """Moving images with captions; ten galleries of 160."""
    data: ClassVar[str] = 'motion captions (CIFAR-10, JPEG copy)'
    data_root: ClassVar[str] = 'data/motion_captions'
    size: ClassVar[int] = 64
    recipe: ClassVar[str] = '1xb64-30e_motion-captions'


@dataclass(frozen=True)
class Reranked(Motion):
    """The same, the best candidates of each query judged again."""
    metric: ClassVar[str] = 'retrieval/t2v_rerank_R@1'


def student(kind: type, method: str, *args, **kwargs) -> Retrieval:
    """Make a student's row, with the teacher if the method needs one.

    Args:
        kind (type): The data.
        method (str): As ``Row``.
        *args: As ``Row``.
        **kwargs: As ``Row``.

    Returns:
        Retrieval: The row.
    """
    teacher = '' if method == 'scratch' else f'clip-tiny-{kind.size}'
    return kind(
        f'videomamba-tiny-{kind.size}',
        method,
        *args,
        teacher=teacher,
        **kwargs)


def four_ways(kind: type, epochs: int) -> List[Retrieval]:
    """List the teachers, four ways to train a student, and less data.

    Args:
        kind (type): The data.
        epochs (int): Length.

    Returns:
        List[Retrieval]: Three seeds of each student; at 75 % of the videos
        from scratch, with TransMamba, and with TransMamba whose teacher saw
        the same videos only.
    """
    rows = [
        kind(f'clip-tiny-{kind.size}', 'scratch', f, 0, epochs)
        for f in (1., 0.75)
    ]
    for seed in range(3):
        rows += [student(kind, m, 1., seed, epochs) for m in METHODS]
        rows += [
            student(kind, m, 0.75, seed, epochs)
            for m in ('transmamba', 'scratch')
        ]
        rows.append(
            student(
                kind, 'transmamba', 0.75, seed, epochs, teacher_fraction=0.75))
    return rows


def retrieval_exercises(epochs: int = 150) -> List[Retrieval]:
    """List the ablation on exercises.

    Args:
        epochs (int): Length. Defaults to 150.

    Returns:
        List[Retrieval]: See :func:`four_ways`.
    """
    return four_ways(Exercises, epochs)


def retrieval_motion(epochs: int = 30) -> List[Retrieval]:
    """List the ablation on motion captions.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Retrieval]: See :func:`four_ways`.
    """
    return four_ways(Motion, epochs)


def retrieval_heads(epochs: int = 30) -> List[Retrieval]:
    """List the heads on motion captions, where the order of frames matters.

    The row of the plain head is that of the ablation. A line of cross-Mamba
    has the results without re-ranking in its ``metrics`` too.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Retrieval]: Three seeds of each.
    """
    rows = []
    for seed in range(3):
        rows += [
            student(Motion, 'scratch', 1., seed, epochs),
            student(
                Reranked, 'scratch', 1., seed, epochs, variant='cross-mamba'),
            student(
                Reranked,
                'transmamba',
                1.,
                seed,
                epochs,
                variant='cross-mamba'),
            student(Motion, 'scratch', 1., seed, epochs, variant='seq')
        ]
    return rows


def retrieval(epochs: Optional[int] = None) -> List[Retrieval]:
    """List all of it, so that no device waits for the end of a table.

    Args:
        epochs (int, optional): Length. None takes each table's. Defaults to
            None.

    Returns:
        List[Retrieval]: The teachers, then one seed after the other.
    """
    length = {} if epochs is None else dict(epochs=epochs)
    rows = {
        row.name: row
        for make in (retrieval_motion, retrieval_heads, retrieval_exercises)
        for row in make(**length)
    }
    return sorted(rows.values(), key=lambda r: (not r.is_teacher, r.seed))


def retrieval_screen(epochs: int = 10) -> List[Retrieval]:
    """List the first questions, in short trainings of one seed.

    Args:
        epochs (int): Length. Defaults to 10.

    Returns:
        List[Retrieval]: On motion captions: learning rates, equal captions
        as negatives, and the terms of the distillation.
    """
    rows = [Motion('clip-tiny-64', 'scratch', 1., 0, epochs)]
    rows += [
        student(Motion, 'scratch', 1., 0, epochs, variant=v)
        for v in ('', 'lr 5e-4', 'lr 2e-3', 'same are negatives')
    ]
    rows += [
        student(Motion, 'distill', 1., 0, epochs, variant=v)
        for v in ('', 'features only', 'similarities only')
    ]
    return rows


TABLES = dict(
    retrieval=retrieval,
    retrieval_exercises=retrieval_exercises,
    retrieval_motion=retrieval_motion,
    retrieval_heads=retrieval_heads,
    retrieval_screen=retrieval_screen)
