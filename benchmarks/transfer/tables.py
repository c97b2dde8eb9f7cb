"""Which trainings make up the tables of image classification."""
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Dict, List, Tuple

from row import Row
from variants import options_of

METHODS = ('scratch', 'subclone', 'distill', 'transmamba')
STUDENTS = ('plainmamba-tiny-32', 'vim-tiny-32', 'vmamba-tiny-32')
TEACHER = 'vit-tiny-32'
#: Width and depth of teachers of other shapes than the students'.
SHAPES = {
    'vit-deep-32': (192, 18),
    'vit-wide-32': (384, 12),
    'vit-narrow-32': (96, 12),
}
TEACHERS = (TEACHER, *SHAPES)


@dataclass(frozen=True)
class Run(Row):
    """One training on CIFAR-10.

    Args:
        *args: As ``Row``.
        teacher_fraction (float): Share of the images that the teacher saw.
            Defaults to 1.
        **kwargs: As ``Row``.
    """
    teacher_fraction: float = 1.

    task: ClassVar[str] = 'classification'
    data: ClassVar[str] = 'cifar10 (JPEG copy)'
    data_root: ClassVar[str] = 'data/cifar10'
    metric: ClassVar[str] = 'accuracy/top1'
    graph: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """str: Name of the work folder."""
        shape = f'{self.teacher}-' if self.teacher in SHAPES else 'teacher'
        parts = [
            self.method, self.student,
            self.variant.replace(', ', '+'), f'{self.fraction:g}',
            f'{shape}{self.teacher_fraction:g}', f'{self.epochs}e',
            f's{self.seed}'
        ]
        return '_'.join(p.replace(' ', '-') for p in parts if p)

    @property
    def config(self) -> str:
        """str: Path of the recipe; one for teachers of all shapes."""
        length = '200e' if self.student in TEACHERS else '30e'
        with_teacher = f'_{TEACHER}-pre' if self.teacher else ''
        prefix = '' if self.method == 'scratch' else f'{self.method}_'
        return (f'configs/transmamba/{prefix}{self.student}{with_teacher}'
                f'_1xb256-{length}_cifar10-folder.py')

    @property
    def predictions(self) -> bool:
        """bool: Whether the class of each test image is kept."""
        return not self.variant

    @property
    def needs(self) -> Dict[str, str]:
        """Dict[str, str]: The teacher's weights."""
        if not self.teacher:
            return {}
        return dict(TEACHER=weights_of(self.teacher, self.teacher_fraction))

    @property
    def keeps(self) -> str:
        """str: Name of a teacher's weights."""
        if self.student not in TEACHERS:
            return ''
        return weights_of(self.student, self.fraction)

    @property
    def teacher_label(self) -> str:
        """str: The teacher and its share of the images."""
        return self.teacher and f'{self.teacher} ({self.teacher_fraction:.0%})'

    def data_options(self, root: str) -> Dict[str, object]:
        """Return where the images are.

        Args:
            root (str): Folder with ``train`` and ``test``.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        return {
            'train_dataloader.dataset.dataset.data_root': root,
            'val_dataloader.dataset.data_root': root,
            'train_dataloader.dataset.fraction': self.fraction,
        }

    def options(self) -> Dict[str, object]:
        """Return what differs from the recipe.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        hooks = [n for n, methods in _HOOKS if self.method in methods]
        changes = {**options_of(self.variant), **self._teacher_shape()}
        out = {}
        for key, value in changes.items():
            for number, name in enumerate(hooks):
                key = key.replace(f'{name}.', f'custom_hooks.{number}.')
            out[key] = value
        return out

    def _teacher_shape(self) -> Dict[str, object]:
        """Say the teacher's config and shape, if it is not the recipe's."""
        if self.teacher not in SHAPES or self.method == 'subclone':
            return {}
        width, depth = SHAPES[self.teacher]
        config = Run(self.teacher, 'scratch', 1., 0, 1).config
        return {
            'teach.teacher.config': config,
            'model.distiller.teacher_dims': width,
            'model.distiller.teacher_depth': depth,
        }


def weights_of(teacher: str, fraction: float) -> str:
    """Return the name of a teacher's weight file.

    Args:
        teacher (str): Its name.
        fraction (float): Share of the images that it saw.

    Returns:
        str: File name.
    """
    stem = f'{teacher}-' if teacher in SHAPES else 'teacher'
    return f'{stem}{fraction:g}.pth'


_HOOKS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ('clone', ('subclone', 'transmamba')),
    ('teach', ('distill', 'transmamba')),
)


def taught(student: str,
           method: str,
           *args,
           teacher: str = TEACHER,
           **kwargs) -> Run:
    """Make a run, with a teacher if the method needs one.

    Args:
        student (str): As ``Run``.
        method (str): As ``Run``.
        *args: As ``Run``.
        teacher (str): The teacher. Defaults to ``TEACHER``.
        **kwargs: As ``Run``.

    Returns:
        Run: The run.
    """
    teacher = '' if method == 'scratch' else teacher
    return Run(student, method, *args, teacher=teacher, **kwargs)


def teachers(epochs: int = 200) -> List[Run]:
    """List the trainings of the teachers.

    Args:
        epochs (int): Length. Defaults to 200.

    Returns:
        List[Run]: One on all the images, one on 75 % of them, and those of
        other shapes on all.
    """
    wanted = [(TEACHER, 1.), (TEACHER, 0.75), *((s, 1.) for s in SHAPES)]
    return [Run(name, 'scratch', f, 0, epochs) for name, f in wanted]


def ablation(epochs: int = 30) -> List[Run]:
    """List the four-way ablation: students x data x methods x seeds.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: The 75 % rows with a teacher come twice, the second time
        with a teacher that saw the same images only.
    """
    runs = []
    for seed, student, method in product(range(3), STUDENTS, METHODS):
        runs += [
            taught(student, method, fraction, seed, epochs)
            for fraction in (1., 0.75)
        ]
        if method != 'scratch':
            runs.append(
                taught(
                    student, method, 0.75, seed, epochs,
                    teacher_fraction=0.75))
    return runs


def data_curve(epochs: int = 30) -> List[Run]:
    """List the data curve of scratch and TransMamba on one student.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: Five fractions, three seeds.
    """
    return [
        taught('vim-tiny-32', method, fraction, seed, epochs)
        for seed, fraction, method in product(
            range(3), (0.1, 0.25, 0.5, 0.75, 1.), ('scratch', 'transmamba'))
    ]


def losses(epochs: int = 30) -> List[Run]:
    """List the loss variants on one student, without subcloning.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: Variants at 75 % of the images, three seeds.
    """
    names = ('', 'block', 'paper_v1', 'released_code', 'logits only',
             'logits too', 'not adaptive')
    return [
        taught('vim-tiny-32', 'distill', 0.75, seed, epochs, variant=name)
        for seed, name in product(range(3), names)
    ]


def screen(epochs: int = 10) -> List[Run]:
    """List the first question: which loss helps, which cloned tensors hurt.

    Args:
        epochs (int): Length. Defaults to 10.

    Returns:
        List[Run]: Short runs at 75 % of the images, two seeds; the three
        students side by side, the weight of the loss first.
    """
    taught_by = ('', 'alpha 3', 'alpha 10', 'logits only',
                 'alpha 3, logits too', 'block, alpha 3',
                 'alpha 3, not adaptive')
    cloned = ('linear', 'all layers', 'no layers', 'no embeddings',
              'no position', 'no head', 'no norms')
    rows = [('scratch', '')]
    rows += [('distill', v) for v in taught_by]
    rows += [('subclone', ''), ('transmamba', '')]
    rows += [('transmamba', v) for v in taught_by[1:3]]
    rows += [('transmamba', f'alpha 3, {v}') for v in cloned]
    return [
        taught(student, method, 0.75, seed, epochs, variant=variant)
        for seed, (method,
                   variant), student in product(range(2), rows, STUDENTS)
    ]


def cloning(epochs: int = 30) -> List[Run]:
    """List how many layers are cloned, and by which preset.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: TransMamba on one student at 75 % of the images, three
        seeds; the default, half of the layers by the preset 'safe', is a row
        of ``ablation``, nothing cloned is its method 'distill'.
    """
    names = ('no layers', '3 layers', 'all layers', 'linear', 'qkv to ssm')
    return [
        taught('vim-tiny-32', 'transmamba', 0.75, seed, epochs, variant=name)
        for seed, name in product(range(3), names)
    ]


def shapes(epochs: int = 30) -> List[Run]:
    """List teachers deeper, wider and narrower than the student.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: TransMamba on one student at 75 % of the images, three
        seeds; the teacher of its own shape is a row of ``ablation``.
    """
    return [
        taught('vim-tiny-32', 'transmamba', 0.75, seed, epochs, teacher=name)
        for seed, name in product(range(3), SHAPES)
    ]


def timing(epochs: int = 30) -> List[Run]:
    """List trainings whose time is compared; run them with ``--jobs 1``.

    Args:
        epochs (int): Length. Defaults to 30.

    Returns:
        List[Run]: Scratch on all images, TransMamba on all and on 75 %, for
        each student, one seed.
    """
    kinds = (('scratch', 1.), ('transmamba', 1.), ('transmamba', 0.75))
    return [
        taught(student, method, fraction, 0, epochs, variant='alone')
        for student, (method, fraction) in product(STUDENTS, kinds)
    ]


TABLES = dict(
    teachers=teachers,
    screen=screen,
    ablation=ablation,
    data_curve=data_curve,
    losses=losses,
    cloning=cloning,
    shapes=shapes,
    timing=timing)
