"""What a ready teacher says, and which models are measured."""
from pathlib import Path
from typing import List, Optional

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.apis import get_model

from transmamba_mm.evaluation import Predictions
from transmamba_mm.models.teachers import preprocessor_normalisation
from . import teachers
from .speed import Model
from .study import Study


def teacher_answers(study: Study) -> Optional[Predictions]:
    """Let the teacher answer the validation images, once.

    Args:
        study (Study): Finished runs.

    Returns:
        Predictions, optional: None if its head is not of these classes.
    """
    if study.teacher_run is not None:
        return Predictions.load(study.teacher_run.dir / 'predictions.npz')
    if study.teacher.num_classes != len(study.settings.task.classes):
        return None
    known = study.settings.work_dir / 'teacher_predictions.npz'
    if not known.exists():
        run = study.students[0]
        predict(study.teacher.config, run.dir / 'config.py').save(known)
    return Predictions.load(known)


@torch.no_grad()
def predict(teacher: dict, student: Path) -> Predictions:
    """Let a teacher answer the images that a student is tested on.

    Args:
        teacher (dict): Config of a ``FrozenTeacher``.
        student (Path): Config of a student.

    Returns:
        Predictions: The answers.
    """
    cfg, device = Config.fromfile(student), get_device()
    preprocessor = get_model(cfg, device=device).data_preprocessor
    model = teachers.build(teacher).to(device)
    model.match_inputs(*preprocessor_normalisation(preprocessor))
    cfg.test_dataloader.setdefault('collate_fn', dict(type='default_collate'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    parts = []
    for batch in loader:
        data = preprocessor(batch, False)
        scores = model.record(data['inputs'], [model.head_name])
        for sample, score in zip(data['data_samples'],
                                 scores[model.head_name].softmax(-1)):
            sample.set_pred_score(score)
        parts.append(
            Predictions.from_samples(data['data_samples'],
                                     loader.dataset.metainfo['classes']))
    return Predictions.join(parts)


def models_to_measure(study: Study) -> List[Model]:
    """List the models whose latency counts; all students are alike.

    Args:
        study (Study): Finished runs.

    Returns:
        List[Model]: 'teacher' and 'student'.
    """
    size, student = study.settings.task.img_size, study.students[0]
    run = study.teacher_run
    teacher = Model('teacher', study.teacher.config, '', size)
    if run is not None:
        teacher = Model('teacher', str(run.dir / 'config.py'),
                        str(run.checkpoint()), size)
    return [
        teacher,
        Model('student', str(student.dir / 'config.py'),
              str(student.checkpoint()), size)
    ]
