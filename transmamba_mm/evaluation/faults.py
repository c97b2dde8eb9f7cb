"""Which faults a student has from its teacher, and which are its own.

For deployment it matters not only how often a student is right, but where it
is wrong: classes that lose, confidence that is not deserved, and mistakes that
it would not make without its teacher.
"""
from typing import Dict, List, Optional

import numpy as np

from .predictions import Predictions

#: Bins of the calibration error.
NUM_BINS = 15


def describe_predictions(answers: Predictions) -> Dict:
    """Measure a classifier alone.

    Args:
        answers (Predictions): Its answers.

    Returns:
        Dict: ``accuracy``, ``per_class`` (a list by class; None for a class
        without images) and ``ece``, in per cent. See
        :func:`calibration_error` for when the last is None.
    """
    right = answers.labels == answers.targets
    count = max(int(answers.targets.max()) + 1, len(answers.classes))
    per_class: List[Optional[float]] = []
    for k in range(count):
        own = right[answers.targets == k]
        per_class.append(_percent(own) if len(own) else None)
    return dict(
        accuracy=_percent(right),
        per_class=per_class,
        ece=calibration_error(answers))


def calibration_error(answers: Predictions) -> Optional[float]:
    """Measure how far confidence and accuracy are apart.

    Args:
        answers (Predictions): Answers of a classifier.

    Returns:
        float, optional: Expected calibration error of the best class (Guo et
        al., arXiv 1706.04599, equation 3) with 15 bins, in per cent; None
        without the package torchmetrics.
    """
    try:
        from torchmetrics.functional.classification import \
            binary_calibration_error
    except ImportError:
        return None
    import torch

    # The error of the best class is that of the statement "I am right".
    right = torch.from_numpy(answers.labels == answers.targets).int()
    confidence = torch.from_numpy(answers.confidences.astype(np.float32))
    return 100 * float(
        binary_calibration_error(confidence, right, n_bins=NUM_BINS))


def compare_faults(student: Predictions, teacher: Predictions) -> Dict:
    """Measure a student, and against its teacher.

    Args:
        student (Predictions): Its answers.
        teacher (Predictions): The teacher's, to the same images.

    Returns:
        Dict: As :func:`describe_predictions`, and in per cent:

        - ``agreement``: of all images, same class as the teacher's;
        - ``wrong_too``: of the teacher's mistakes, wrong as well;
        - ``inherited``: of the teacher's mistakes, wrong with the same class;
        - ``own_mistakes``: of all images, wrong where the teacher is right.

        The second and third are None if the teacher makes no mistake. They
        say what a teacher has passed on only beside those of a student from
        scratch: hard images mislead everybody.

    Raises:
        ValueError: The answers are to other images.
    """
    if not np.array_equal(student.targets, teacher.targets):
        raise ValueError(
            'student and teacher have answered to other images or in another '
            f'order ({len(student.targets)} and {len(teacher.targets)}); '
            'compare them on the same data set')
    same = student.labels == teacher.labels
    wrong = student.labels != student.targets
    missed = teacher.labels != teacher.targets
    some = bool(missed.any())
    return dict(
        describe_predictions(student),
        agreement=_percent(same),
        wrong_too=_percent(wrong[missed]) if some else None,
        inherited=_percent(same[missed]) if some else None,
        own_mistakes=_percent(wrong & ~missed))


def fault_report(teacher: Predictions, students: Dict[str,
                                                      Predictions]) -> Dict:
    """Put the figures of a teacher and its students together.

    Args:
        teacher (Predictions): The teacher's answers.
        students (Dict[str, Predictions]): Those of students, by their names,
            to the same images.

    Returns:
        Dict: ``images``, ``classes`` (their names), ``teacher`` as
        :func:`describe_predictions`, and ``students``: by name as
        :func:`compare_faults`. All of it fits into JSON.
    """
    return dict(
        images=len(teacher.targets),
        classes=teacher.classes.tolist(),
        teacher=describe_predictions(teacher),
        students={
            name: compare_faults(student, teacher)
            for name, student in students.items()
        })


def _percent(flags: np.ndarray) -> float:
    return 100 * float(flags.mean())
