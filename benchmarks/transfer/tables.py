"""Which trainings make up the tables of image classification."""
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Dict, List, Tuple

from row import Row

METHODS = ('scratch', 'subclone', 'distill', 'transmamba')
STUDENTS = ('plainmamba-tiny-32', 'vim-tiny-32', 'vmamba-tiny-32')
TEACHER = 'vit-tiny-32'

#: Options of a recipe by which a variant differs. 'clone.' and 'teach.' stand
#: for the recipe's subcloning and its distilling hook.
VARIANTS: Dict[str, Dict[str, str]] = {
    '': {},
    # distillation
    'block': {
        'model.distiller.features': 'block'
    },
    'paper_v1': {
        'model.distiller.variant': 'paper_v1'
    },
    'released_code': {
        'model.distiller.variant': 'released_code'
    },
    'logits only': {
        'model.distiller.alpha': '0',
        'model.distiller.logit_weight': '1'
    },
    'logits too': {
        'model.distiller.logit_weight': '1'
    },
    'block, logits too': {
        'model.distiller.features': 'block',
        'model.distiller.logit_weight': '1'
    },
    'not adaptive': {
        'model.distiller.adaptive': 'False'
    },
    'alpha 3': {
        'model.distiller.alpha': '3'
    },
    'block, alpha 3': {
        'model.distiller.features': 'block',
        'model.distiller.alpha': '3'
    },
    # subcloning
    'linear': {
        'clone.plan.preset': 'linear'
    },
    'all layers': {
        'clone.first_n': 'all'
    },
    'no layers': {
        'clone.first_n': '0'
    },
    'no embeddings': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[pos_embed,patch_embed,cls_token]'
    },
    'no position': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[pos_embed]'
    },
    'no head': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[head]'
    },
    'no norms': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[norm,ln1]'
    },
    'linear, all layers': {
        'clone.plan.preset': 'linear',
        'clone.first_n': 'all'
    },
}


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
        parts = [
            self.method, self.student,
            self.variant.replace(', ', '+'), f'{self.fraction:g}',
            f'teacher{self.teacher_fraction:g}', f'{self.epochs}e',
            f's{self.seed}'
        ]
        return '_'.join(p.replace(' ', '-') for p in parts if p)

    @property
    def config(self) -> str:
        """str: Path of the recipe."""
        length = '200e' if self.student == TEACHER else '30e'
        with_teacher = f'_{self.teacher}-pre' if self.teacher else ''
        prefix = '' if self.method == 'scratch' else f'{self.method}_'
        return (f'configs/transmamba/{prefix}{self.student}{with_teacher}'
                f'_1xb256-{length}_cifar10-folder.py')

    @property
    def needs(self) -> Dict[str, str]:
        """Dict[str, str]: The teacher's weights."""
        if not self.teacher:
            return {}
        return dict(TEACHER=f'teacher{self.teacher_fraction:g}.pth')

    @property
    def keeps(self) -> str:
        """str: Name of a teacher's weights."""
        is_teacher = self.student == TEACHER
        return f'teacher{self.fraction:g}.pth' if is_teacher else ''

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
        out = {}
        for key, value in VARIANTS[self.variant].items():
            for number, name in enumerate(hooks):
                key = key.replace(f'{name}.', f'custom_hooks.{number}.')
            out[key] = value
        return out


_HOOKS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ('clone', ('subclone', 'transmamba')),
    ('teach', ('distill', 'transmamba')),
)


def taught(student: str, method: str, *args, **kwargs) -> Run:
    """Make a run, with the teacher if the method needs one.

    Args:
        student (str): As ``Run``.
        method (str): As ``Run``.
        *args: As ``Run``.
        **kwargs: As ``Run``.

    Returns:
        Run: The run.
    """
    teacher = '' if method == 'scratch' else TEACHER
    return Run(student, method, *args, teacher=teacher, **kwargs)


def teachers(epochs: int = 200) -> List[Run]:
    """List the trainings of the teachers.

    Args:
        epochs (int): Length. Defaults to 200.

    Returns:
        List[Run]: One on all the images, one on 75 % of them.
    """
    return [Run(TEACHER, 'scratch', f, 0, epochs) for f in (1., 0.75)]


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
    """List the first question: which cloned tensors hurt, which loss helps.

    Args:
        epochs (int): Length. Defaults to 10.

    Returns:
        List[Run]: Short runs at 75 % of the images, two seeds.
    """
    cloned = ('', 'linear', 'all layers', 'no layers', 'no embeddings',
              'no position', 'no head', 'no norms', 'linear, all layers')
    distilled = ('', 'block', 'alpha 3', 'block, alpha 3', 'logits only',
                 'logits too', 'block, logits too', 'not adaptive')
    runs = []
    for seed in range(2):
        for student in ('vim-tiny-32', 'plainmamba-tiny-32'):
            rows = [('scratch', '')]
            rows += [('distill', v) for v in distilled]
            rows += [('subclone', v) for v in cloned]
            rows += [('transmamba', v) for v in cloned]
            runs += [
                taught(student, method, 0.75, seed, epochs, variant=variant)
                for method, variant in rows
            ]
    return runs


TABLES = dict(
    teachers=teachers,
    screen=screen,
    ablation=ablation,
    data_curve=data_curve,
    losses=losses)
