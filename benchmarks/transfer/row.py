"""What a row of a table is: one training, and its line in the results.

A file ``*_tables.py`` beside this one adds tables of another task:

1. a frozen dataclass that extends ``Row``, sets ``task``, ``data``,
   ``data_root`` and ``metric``, and says ``config``, ``options()`` and
   ``data_options()``; fields of its own need a default;
2. functions that list rows, with ``epochs`` as their only argument, which
   has a default;
3. ``TABLES = dict(name=function)``.

``run.py name`` then trains them. Rows that need the weights of other rows say
which files (``needs``), and rows whose weights are needed say the name of
theirs (``keeps``); a row waits until its files are there.
"""
from dataclasses import dataclass
from typing import ClassVar, Dict


@dataclass(frozen=True)
class Row:
    """One training.

    Args:
        student (str): Base name of the student's model config.
        method (str): 'scratch', 'subclone', 'distill' or 'transmamba'.
        fraction (float): Share of the training data.
        seed (int): Seed of weights, order and subset.
        epochs (int): Length.
        variant (str): What differs from the recipe, in a few words.
            Defaults to '', the recipe as it is.
        teacher (str): Teacher's name, '' without one. Defaults to ''.

    Attributes:
        task (str): 'classification', 'retrieval' or 'vqa'.
        data (str): Name of the data in the results.
        data_root (str): Where it lies, unless ``--data-root`` says so.
        metric (str): What is measured: a key of the validation's log; the
            larger, the better.
        graph (bool): Whether the recipe trains under
            ``transmamba_mm.CUDAGraphHook`` on a card.
        predictions (bool): Whether the class of each test image is kept.
    """
    student: str
    method: str
    fraction: float
    seed: int
    epochs: int
    variant: str = ''
    teacher: str = ''

    task: ClassVar[str]
    data: ClassVar[str]
    data_root: ClassVar[str]
    metric: ClassVar[str]
    graph: ClassVar[bool] = False
    predictions: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """str: Name of the work folder; no two rows may share it."""
        parts = [
            self.method, self.student,
            self.variant.replace(', ', '+'), self.teacher,
            f'{self.fraction:g}', f'{self.epochs}e', f's{self.seed}'
        ]
        return '_'.join(p.replace(' ', '-') for p in parts if p)

    @property
    def config(self) -> str:
        """str: Path of the recipe, from the project's root."""
        raise NotImplementedError('a row names its config')

    def options(self) -> Dict[str, object]:
        """Return what differs from the recipe.

        They go before those that ``run.py`` sets itself (see
        ``run.common_options``).

        Returns:
            Dict[str, object]: Config keys and values.
        """
        raise NotImplementedError('a row names its options, if only {}')

    def data_options(self, root: str) -> Dict[str, object]:
        """Return where the data is.

        Args:
            root (str): Folder of the data.

        Returns:
            Dict[str, object]: Config keys and values.
        """
        raise NotImplementedError('a row says how its data is found')

    @property
    def needs(self) -> Dict[str, str]:
        """Dict[str, str]: Environment variables of the config, and the name
        of the weights, file or folder, in the teachers' folder that each
        gets."""
        return {}

    @property
    def keeps(self) -> str:
        """str: Name under which the teachers' folder gets the trained
        weights; '' for none."""
        return ''

    @property
    def teacher_label(self) -> str:
        """str: Teacher in the results."""
        return self.teacher

    def identity(self) -> Dict[str, object]:
        """Return what is known of the line before the training.

        Returns:
            Dict[str, object]: All that tells it from other lines.
        """
        return dict(
            task=self.task,
            data=self.data,
            student=self.student,
            teacher=self.teacher_label,
            method=self.method,
            variant=self.variant,
            fraction=self.fraction,
            seed=self.seed,
            epochs=self.epochs,
            metric=self.metric)
