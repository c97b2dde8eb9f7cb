"""Which trainings make up the tables of visual question answering.

The baselines that see no image stand beside each result, as
``vqa/majority_acc`` and ``vqa/question_only_acc`` of its ``metrics``, and the
accuracy of each type of answer as ``vqa/acc_TYPE``.
"""
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Dict, List

from row import Row

METHODS = ('scratch', 'subclone', 'distill', 'transmamba')
FOLDER = 'configs/transmamba/vqa'

#: Options of a recipe by which a variant differs. 'clone.' and 'teach.' stand
#: for the recipe's subcloning and its distilling hook.
VARIANTS: Dict[str, Dict[str, object]] = {
    '': {},
    'own tower': {
        'clone.copy': '[]'
    },
    'linear': {
        'clone.plan.preset': 'linear'
    },
    'features only': {
        'model.answer_weight': 0
    },
    'answers only': {
        'model.distiller.alpha': 0
    },
    'no fusion': {
        'model.fusion': None
    },
}


@dataclass(frozen=True)
class Questions(Row):
    """One training on questions about images, scored on the test images.

    Args:
        teacher_fraction (float): Share of the images that the teacher saw.
            Defaults to 1.
    """
    teacher_fraction: float = 1.

    task: ClassVar[str] = 'vqa'
    metric: ClassVar[str] = 'vqa/acc'
    size: ClassVar[int]
    recipe: ClassVar[str]
    teacher_recipe: ClassVar[str]
    test_split: ClassVar[str]
    #: Place of the tokenising step in both pipelines.
    token_step: ClassVar[int]

    @property
    def is_teacher(self) -> bool:
        """bool: Whether it is a LLaVA in the making."""
        return self.student.startswith('llava')

    @property
    def name(self) -> str:
        """str: As ``Row``, with the data and the teacher's share."""
        share = f'_teacher{self.teacher_fraction:g}' if self.teacher else ''
        return f'{super().name}{share}_{self.recipe.split("_")[-1]}'

    @property
    def config(self) -> str:
        """str: Path of the recipe."""
        parts = [] if self.method == 'scratch' else [self.method]
        parts.append(self.student)
        if self.teacher:
            parts.append(f'{self.teacher}-pre')
        parts.append(self.teacher_recipe if self.is_teacher else self.recipe)
        return f'{FOLDER}/{"_".join(parts)}.py'

    @property
    def needs(self) -> Dict[str, str]:
        """Dict[str, str]: The teacher's weights."""
        if not self.teacher:
            return {}
        return dict(TEACHER=self._file(self.teacher, self.teacher_fraction))

    @property
    def keeps(self) -> str:
        """str: File of a teacher's weights."""
        return self._file(self.student,
                          self.fraction) if self.is_teacher else ''

    def _file(self, name: str, fraction: float) -> str:
        return f'{name}_{fraction:g}.pth'

    @property
    def teacher_label(self) -> str:
        """str: Teacher, with the share of the images that it saw."""
        return self.teacher and f'{self.teacher} ({self.teacher_fraction:.0%})'

    def data_options(self, root: str) -> Dict[str, object]:
        """Return where the data is; validation takes the test's questions.

        Args:
            root (str): Folder with ``tokenizer`` and the data.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        out: Dict[str, object] = {'model.tokenizer': f'{root}/tokenizer'}
        for part in ('train', 'val'):
            dataset = f'{part}_dataloader.dataset'
            out[f'{dataset}.data_root'] = root
            out[f'{dataset}.pipeline.{self.token_step}.tokenizer'] = (
                f'{root}/tokenizer')
            out[f'{part}_dataloader.num_workers'] = 2
        return {
            **out, 'val_evaluator.train_dataset.data_root': root,
            'val_dataloader.dataset.split': self.test_split,
            'val_dataloader.batch_size': 512,
            'train_dataloader.dataset.fraction': self.fraction
        }

    def options(self) -> Dict[str, object]:
        """Return what differs from the recipe.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        hooks = [n for n, methods in _HOOKS if self.method in methods]
        out = {'train_cfg.val_interval': max(1, self.epochs // 3)}
        for key, value in VARIANTS[self.variant].items():
            for number, hook in enumerate(hooks):
                key = key.replace(f'{hook}.', f'custom_hooks.{number}.')
            out[key] = value
        return out


_HOOKS = (
    ('clone', ('subclone', 'transmamba')),
    ('teach', ('distill', 'transmamba')),
)


@dataclass(frozen=True)
class EasyVQA(Questions):
    """One coloured shape an image; the test images of the package."""
    data: ClassVar[str] = 'easy-vqa'
    data_root: ClassVar[str] = 'data/easy-vqa'
    size: ClassVar[int] = 64
    recipe: ClassVar[str] = '1xb128-6e_easy-vqa'
    teacher_recipe: ClassVar[str] = '1xb128-12e_easy-vqa'
    test_split: ClassVar[str] = 'test'
    token_step: ClassVar[int] = 1


@dataclass(frozen=True)
class Daquar(Questions):
    """Photos of rooms at 80 pixels, split by image."""
    data: ClassVar[str] = 'daquar (by image, 80 px)'
    data_root: ClassVar[str] = 'data/daquar'
    size: ClassVar[int] = 80
    recipe: ClassVar[str] = '1xb128-20e_daquar'
    teacher_recipe: ClassVar[str] = '1xb128-20e_daquar'
    test_split: ClassVar[str] = 'val'
    token_step: ClassVar[int] = 2

    def _file(self, name: str, fraction: float) -> str:
        return f'{name}_daquar_{fraction:g}.pth'


def teacher(kind: type, fraction: float, epochs: int) -> Questions:
    """Make a teacher's row.

    Args:
        kind (type): The data.
        fraction (float): Share of the images.
        epochs (int): Length.

    Returns:
        Questions: The row.
    """
    return kind(f'llava-tiny-{kind.size}', 'scratch', fraction, 0, epochs)


def student(kind: type, method: str, *args, **kwargs) -> Questions:
    """Make a student's row, with the teacher if the method needs one.

    Args:
        kind (type): The data.
        method (str): As ``Row``.
        *args: As ``Row``.
        **kwargs: As ``Questions``.

    Returns:
        Questions: The row.
    """
    name = '' if method == 'scratch' else f'llava-tiny-{kind.size}'
    return kind(
        f'transllava-tiny-{kind.size}', method, *args, teacher=name, **kwargs)


def easy_vqa(epochs: int = 6) -> List[Questions]:
    """List the teacher, the student from scratch and TransMamba, 3 seeds.

    Args:
        epochs (int): Length of the students' trainings; the teacher's is
            twice as long. Defaults to 6.

    Returns:
        List[Questions]: With 75 % of the images also a teacher that saw no
        others.
    """
    rows = [teacher(EasyVQA, f, 2 * epochs) for f in (1., 0.75)]
    for seed in range(3):
        for method, fraction in product(('scratch', 'transmamba'), (1., 0.75)):
            rows.append(student(EasyVQA, method, fraction, seed, epochs))
        rows.append(
            student(
                EasyVQA,
                'transmamba',
                0.75,
                seed,
                epochs,
                teacher_fraction=0.75))
    return rows


def easy_vqa_parts(epochs: int = 6) -> List[Questions]:
    """List what each part brings, at 75 % of the images, 3 seeds.

    Args:
        epochs (int): Length. Defaults to 6.

    Returns:
        List[Questions]: The two halves of TransMamba, and variants.
    """
    rows = []
    for seed in range(3):
        for method, names in (('scratch', ['no fusion']), ('subclone', [
                '', 'own tower', 'linear'
        ]), ('distill', ['', 'features only', 'answers only']),
                              ('transmamba', ['own tower', 'no fusion'])):
            rows += [
                student(EasyVQA, method, 0.75, seed, epochs, variant=name)
                for name in names
            ]
    return rows


def daquar(epochs: int = 20) -> List[Questions]:
    """List the teacher, the student from scratch and TransMamba, 1 seed.

    Args:
        epochs (int): Length. Defaults to 20.

    Returns:
        List[Questions]: The rows.
    """
    pairs = product(('scratch', 'transmamba'), (1., 0.75))
    return [teacher(Daquar, 1., epochs)] + [
        student(Daquar, method, fraction, 0, epochs)
        for method, fraction in pairs
    ]


TABLES = dict(easy_vqa=easy_vqa, easy_vqa_parts=easy_vqa_parts, daquar=daquar)
