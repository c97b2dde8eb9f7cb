"""A CLIP4Clip in the making leaves a teacher behind."""
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.test_models.test_multimodal.test_towers import clip4clip_cfg
from tests.test_models.test_multimodal.toy_videos import retrieval_cfg
from transmamba_mm.engine import ExportOpenCLIPHook
from transmamba_mm.models import CLIP4ClipTeacher


def test_the_folder_teaches(tmp_path):
    model = MODELS.build(clip4clip_cfg())
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path))
    hook = ExportOpenCLIPHook()
    hook.before_train(runner)
    for value in (1., 2.):  # a second training writes over the first
        with torch.no_grad():
            model.head.logit_scale.fill_(value)
        hook.after_train(runner)
    assert [p.name for p in tmp_path.iterdir()] == ['open_clip']
    teacher = CLIP4ClipTeacher(str(tmp_path / 'open_clip'))
    assert teacher.scale == pytest.approx(torch.tensor(2.).exp().item())
    own = model.backbone.model.state_dict()
    for name, value in teacher.model.state_dict().items():
        assert torch.equal(value, own[name])


def test_another_model_is_refused_before_it_trains():
    runner = SimpleNamespace(model=MODELS.build(retrieval_cfg()))
    with pytest.raises(ValueError, match='backbone is VideoMamba'):
        ExportOpenCLIPHook().before_train(runner)
