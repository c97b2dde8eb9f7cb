"""Pictures of the hooks, and scalars, in each of MMEngine's back ends."""
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

from tests.test_distillation_run import distill_hook
from tests.toy import NORMALISE, make_runner, student_cfg, vit_cfg
from transmamba_mm.engine.hooks import DirectionMapHook
from transmamba_mm.engine.hooks.direction_map_hook import to_picture

HOOK = dict(type='transmamba_mm.DirectionMapHook', num_images=2)


def train(folder, backend, epochs=1):
    """Distil for some epochs with one back end more."""
    torch.manual_seed(0)
    teacher = MODELS.build(vit_cfg())
    torch.save(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')
    distiller = dict(layer_map='cka', log_layers=True)
    runner = make_runner(
        folder / 'run',
        student_cfg('VisionMamba', distiller),
        [distill_hook(str(folder / 'teacher.pth')), HOOK],
        epochs=epochs,
        visualizer=dict(
            type='UniversalVisualizer',
            vis_backends=[dict(type='LocalVisBackend'), backend]))
    try:
        runner.train()
    finally:
        runner.visualizer.close()
    return runner


def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import \
        EventAccumulator
    train(tmp_path, dict(type='TensorboardVisBackend'), epochs=2)
    events, = (tmp_path / 'run').glob('*/vis_data/events.*')
    board = EventAccumulator(str(events))
    board.Reload()
    tags = board.Tags()
    assert set(tags['images']) == {
        'layer_cka', 'direction_maps_0', 'direction_maps_1'
    }
    assert {'loss', 'distill.cos_l02', 'accuracy/top1'} <= {*tags['scalars']}
    assert [e.step for e in board.Images('direction_maps_0')] == [1, 2]
    # and the local back end goes on as before
    names = {p.name for p in (tmp_path / 'run').glob('*/vis_data/*/*.png')}
    assert {'layer_cka_0.png', 'direction_maps_1_2.png'} <= names


def test_wandb_without_network(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    train(tmp_path,
          dict(type='WandbVisBackend', init_kwargs=dict(project='toy')))
    folder = next((tmp_path / 'run').glob('*/vis_data/wandb/offline-run-*'))
    assert any(p.suffix == '.wandb' for p in folder.iterdir())
    names = [p.name for p in (folder / 'files/media/images').iterdir()]
    for wanted in ('layer_cka', 'direction_maps_0', 'direction_maps_1'):
        assert any(name.startswith(wanted) for name in names), names


def test_interval_and_choice(tmp_path):
    hook = dict(HOOK, num_images=1, interval=2, layers=[-1], kind='norm')
    make_runner(tmp_path, student_cfg(), [hook], epochs=3).train()
    pictures = sorted(tmp_path.glob('*/vis_data/vis_image/*.png'))
    assert [p.name for p in pictures
            ] == ['direction_maps_0_1.png', 'direction_maps_0_3.png']
    with Image.open(pictures[0]) as image:
        assert image.width > image.height, 'more than one layer'


def test_training_is_not_changed(tmp_path):
    """The hook leaves weights and random numbers as they are."""
    states = []
    for name, hooks in (('a', []), ('b', [HOOK])):
        runner = make_runner(tmp_path / name, student_cfg(), hooks, epochs=2)
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize('kwargs', [
    dict(kind='tsne'),
    dict(num_images=0),
    dict(interval=0),
])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match='custom_hooks'):
        DirectionMapHook(**kwargs)


@pytest.mark.parametrize('model, hook, match', [
    (vit_cfg(), {}, 'VisionTransformer has no scan directions'),
    (student_cfg(), dict(layers=[7]), r'layers \[7\]'),
    (student_cfg('VideoMamba', num_frames=2), {}, 'takes clips'),
])
def test_refusals_before_the_training(tmp_path, model, hook, match):
    runner = make_runner(tmp_path, model, [{**HOOK, **hook}])
    with pytest.raises(ValueError, match=match):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize('to_rgb', [False, True])
def test_picture_is_the_image(to_rgb):
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    preprocessor = MODELS.build(
        dict(type='ClsDataPreprocessor', to_rgb=to_rgb, **NORMALISE))
    inputs = preprocessor(dict(inputs=image[None]), False)['inputs']
    want = image.flip(0).movedim(0, -1).numpy().astype(int)
    shown = to_picture(inputs[0], preprocessor).astype(int)
    assert np.abs(shown - want).max() <= 1
