"""Students of clips: taught frame by frame, or by a teacher of clips."""
import math

import pytest
import torch
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample

from tests.toy import NORMALISE, ToyDataset, make_runner, student_cfg, vit_cfg
from transmamba_mm.models import MMPretrainTeacher, TokenLayout, match_tokens

FRAMES = 4
MEAN_AND_STD = {k: NORMALISE[k] for k in ('mean', 'std')}
# another normalisation than the teacher's
CLIPS = dict(
    type='transmamba_mm.ClipDataPreprocessor',
    mean=[0., 10., 20.],
    std=[1., 2., 3.],
    num_classes=4)


@pytest.fixture
def image_teacher(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return MMPretrainTeacher(vit_cfg(), str(path))


def clip_student(distiller=None, tubelet_size=1, **teacher):
    torch.manual_seed(1)
    cfg = student_cfg(
        'VideoMamba', distiller, num_frames=FRAMES, tubelet_size=tubelet_size)
    cfg.get('distiller', {}).update(teacher)
    cfg['data_preprocessor'] = CLIPS
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def samples():
    return [DataSample().set_gt_label(i) for i in range(2)]


def test_clip_is_shown_frame_by_frame(image_teacher):
    clip = torch.randn(2, 3, FRAMES, 16, 16)
    names = ['backbone.layers.2', 'head']
    records = image_teacher.record(clip, names)
    layout = image_teacher.record_layout((FRAMES, 16, 16), 2)
    assert layout == TokenLayout((4, 4), 1, 0, FRAMES)
    tokens = records['backbone.layers.2']
    assert tokens.shape == (2, layout.num_tokens, 48)
    alone = [image_teacher.record(clip[:, :, t], names) for t in range(FRAMES)]
    each = torch.stack([r['backbone.layers.2'] for r in alone])
    patches, cls_token = layout.split(tokens)
    torch.testing.assert_close(patches[:, 32:48], each[2, :, 1:])
    torch.testing.assert_close(cls_token, each[:, :, :1].mean(0))
    torch.testing.assert_close(records['head'],
                               torch.stack([r['head'] for r in alone]).mean(0))


def test_distillation_token_of_each_frame_is_dropped(tmp_path):
    cfg = vit_cfg()
    cfg['backbone']['type'] = 'DistilledVisionTransformer'
    cfg['head'] = dict(type='DeiTClsHead', num_classes=4, in_channels=48)
    path = tmp_path / 'deit.pth'
    torch.save(MODELS.build(cfg).state_dict(), path)
    teacher = MMPretrainTeacher(cfg, str(path))
    records = teacher.record(
        torch.randn(1, 3, FRAMES, 16, 16), ['backbone.layers.0'])
    layout = teacher.record_layout((FRAMES, 16, 16))
    assert layout.num_tokens == 1 + FRAMES * 16
    assert records['backbone.layers.0'].shape == (1, layout.num_tokens, 48)


def test_frames_are_renormalised_channel_by_channel(image_teacher):
    """Also where there are as many frames as channels."""
    pixels = torch.rand(2, 3, 3, 16, 16) * 255
    model = clip_student({})
    model.attach_teacher(image_teacher)
    clips = model.data_preprocessor(dict(inputs=pixels,
                                         data_samples=None))['inputs']
    want = (pixels - NORMALISE['mean'][0]) / NORMALISE['std'][0]
    torch.testing.assert_close(
        image_teacher.adapt_inputs(clips), want, rtol=1e-4, atol=1e-4)
    frames = image_teacher.adapt_inputs(clips.transpose(1, 2).flatten(0, 1))
    torch.testing.assert_close(
        frames, want.transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-4)


def step(model, teacher):
    model.attach_teacher(teacher)
    losses = model.loss(torch.randn(2, 3, FRAMES, 16, 16), samples())
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses


@pytest.mark.parametrize('tubelet_size', [1, 2])
@pytest.mark.parametrize('distiller, terms', [
    (dict(), {'forward', 'backward'}),
    (dict(features='block', logit_weight=1.), {'feat', 'logit'}),
    (dict(variant='released_code'), {'feat'}),
])
def test_image_teacher_teaches_clips(image_teacher, tubelet_size, distiller,
                                     terms):
    """ViT of 6 layers of width 48, student of 3 layers of width 32."""
    model = clip_student(distiller, tubelet_size)
    losses = step(model, image_teacher)
    assert {k for k in losses if 'loss' in k} == \
        {'loss_cls', *(f'distill.loss_{t}' for t in terms)}
    assert all(torch.isfinite(v).all() for v in losses.values())
    assert all(p.grad is not None for p in model.parameters())


def clip_teacher(tmp_path, model_cfg, state_dict=None):
    """A VideoMamba of clips that teaches."""
    torch.manual_seed(2)
    path = tmp_path / 'clips.pth'
    torch.save(state_dict or MODELS.build(model_cfg).state_dict(), path)
    return MMPretrainTeacher(model_cfg, str(path))


@pytest.mark.parametrize('kwargs', [dict(), dict(tubelet_size=2)])
def test_clip_teacher_teaches_clips(tmp_path, kwargs):
    """Its tubelets may hold another number of frames."""
    cfg = student_cfg('VideoMamba', num_frames=FRAMES, **kwargs)
    cfg['backbone']['arch'] = dict(embed_dims=48, num_layers=6, d_state=4)
    cfg['head']['in_channels'] = 48
    teacher = clip_teacher(tmp_path, cfg)
    assert teacher.takes_clips
    losses = step(clip_student(dict(logit_weight=1.)), teacher)
    assert all(torch.isfinite(v).all() for v in losses.values())
    assert losses['distill.loss_forward'] > 0


def test_clip_teacher_that_is_the_student_has_nothing_to_teach(tmp_path):
    """The tokens meet their own, the class token at its place."""
    cfg = dict(layer_map=[0, 1, 2], features='block')
    model = clip_student(cfg, teacher_dims=32, teacher_depth=3)
    model.data_preprocessor = MODELS.build({**CLIPS, **MEAN_AND_STD})
    state = {
        k: v
        for k, v in model.state_dict().items() if 'distiller' not in k
    }
    teacher = clip_teacher(tmp_path,
                           student_cfg('VideoMamba', num_frames=FRAMES), state)
    losses = step(model, teacher)
    assert losses['distill.cos_min'].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('kind', ['PlainMamba', 'VisionMamba', 'VideoMamba'])
def test_mamba_of_images_teaches_clips(tmp_path, kind):
    cfg = student_cfg(kind)
    teacher = clip_teacher(tmp_path, cfg)
    assert not teacher.takes_clips
    for distiller in (dict(), dict(variant='released_code')):
        model = clip_student(distiller, teacher_dims=32, teacher_depth=3)
        losses = step(model, teacher)
        assert all(torch.isfinite(v).all() for v in losses.values())


def test_stages_cannot_teach(tmp_path):
    with pytest.raises(ValueError, match='VMamba cannot teach.*VideoMamba'):
        clip_teacher(tmp_path, student_cfg('VMamba'))


def test_frames_become_one_as_their_mean():
    teacher = torch.tensor([0., 0., 0., 8.]).reshape(1, 4, 1)
    layouts = [TokenLayout((1, 1), frames=n) for n in (1, 4)]
    _, matched = match_tokens(torch.zeros(1, 1, 1), teacher, *layouts)
    assert matched.item() == 2


@DATASETS.register_module()
class ToyClips(ToyDataset):
    """The toy images, moving."""

    def prepare_data(self, idx):
        data = super().prepare_data(idx)
        frames = [data['inputs'].roll(t, -1) for t in range(FRAMES)]
        return {**data, 'inputs': torch.stack(frames, dim=1)}


def test_training_on_clips(tmp_path, image_teacher):
    """One epoch through the runner, with the hook and Mixup."""
    loader = dict(batch_size=8, num_workers=0, dataset=dict(type='ToyClips'))
    hook = dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config=vit_cfg(),
            checkpoint=str(tmp_path / 'teacher.pth')))
    cfg = student_cfg(
        'VideoMamba',
        distiller={},
        train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        num_frames=FRAMES,
        tubelet_size=2)
    cfg['data_preprocessor'] = CLIPS
    sampler = dict(type='DefaultSampler', shuffle=True)
    runner = make_runner(
        tmp_path / 'run',
        cfg, [hook],
        train_dataloader=dict(**loader, sampler=sampler),
        val_dataloader=dict(**loader, sampler=sampler))
    before = runner.model.backbone.temporal_pos_embedding.clone()
    runner.train()
    assert not torch.equal(runner.model.backbone.temporal_pos_embedding,
                           before)
    scalars = runner.message_hub.log_scalars
    assert math.isfinite(scalars['train/distill.loss_forward'].current())
    assert 'val/accuracy/top1' in scalars


def test_frames_meet_the_mean_of_their_tubelet():
    teacher = torch.arange(8.).reshape(1, 8, 1)  # four frames of two patches
    got, matched = match_tokens(
        torch.zeros(1, 4, 1), teacher, TokenLayout((1, 2), frames=2),
        TokenLayout((1, 2), frames=4))
    # patch 0 is 0, 2, 4, 6 over time and patch 1 is 1, 3, 5, 7
    assert matched.flatten().tolist() == [1, 2, 5, 6]
    assert got.shape == matched.shape


def test_more_frames_than_the_teacher_are_interpolated():
    teacher = torch.tensor([0., 4.]).reshape(1, 2, 1)
    layouts = [TokenLayout((1, 1), frames=n) for n in (4, 2)]
    _, matched = match_tokens(torch.zeros(1, 4, 1), teacher, *layouts)
    assert matched.flatten().tolist() == [0, 1, 3, 4]


def test_frames_and_grid_are_resized_together():
    teacher = torch.zeros(1, 1 + 2 * 16, 1)
    teacher[0, 0] = 9.  # class token
    teacher[0, 17:25] = 1.  # upper half of the second frame
    student = TokenLayout((2, 2), 1, 0, 2)
    _, matched = match_tokens(
        torch.zeros(1, 9, 1), teacher, student, TokenLayout((4, 4), 1, 0, 2))
    assert matched.flatten().tolist() == [9, 0, 0, 0, 0, 1, 1, 0, 0]
