"""Text-video retrieval taught by a CLIP, and cloned from its ViT."""
import json
import math

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from tests.toy import make_runner
from transmamba_mm.models import CLIP4ClipTeacher, OpenCLIPTeacher
from .toy_videos import CLIP, batch, retrieval_cfg


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a small CLIP, as open_clip writes it."""
    folder = tmp_path_factory.mktemp('clip')
    preprocess = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    (folder / 'open_clip_config.json').write_text(
        json.dumps(dict(model_cfg=CLIP, preprocess_cfg=preprocess)))
    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP)
    torch.save(model.state_dict(), folder / 'open_clip_model.pth')
    return folder


def make(folder, teacher=CLIP4ClipTeacher, **kwargs):
    torch.manual_seed(0)
    cfg = retrieval_cfg(distiller={})
    cfg.update(kwargs)
    model = MODELS.build(cfg)
    model.init_weights()
    teacher = teacher(str(folder))
    model.attach_teacher(teacher)
    return model, teacher


def step(model, **kwargs):
    return model(
        **model.data_preprocessor(batch(range(6)), True),
        mode='loss',
        **kwargs)


def teacher_features(folder):
    """What the library makes of the toy batch."""
    clip = open_clip.create_model(f'local-dir:{folder}').eval()
    data = batch(range(6))
    mean, std = (
        torch.tensor(v).reshape(3, 1, 1, 1)
        for v in (clip.visual.image_mean, clip.visual.image_std))
    clips = (torch.stack(data['inputs']) / 255 - mean) / std
    with torch.no_grad():
        frames = clip.encode_image(clips.transpose(1, 2).flatten(0, 1))
        text = clip.encode_text(
            torch.stack([s.text['input_ids'] for s in data['data_samples']]))
    return F.normalize(frames.unflatten(0, (6, -1)).mean(1), dim=-1), \
        F.normalize(text, dim=-1)


def test_similarities_are_brought_near_the_teachers(folder):
    model, _ = make(folder, similarity_weight=0.5)
    losses = step(model)
    video, text = model(
        **model.data_preprocessor(batch(range(6)), True), mode='tensor')
    own = model.head.logit_scale.exp() * video @ text.t()
    seen, told = teacher_features(folder)
    # the factor of a new CLIP, which its file tells
    shown = 1 / 0.07 * seen @ told.t()
    expected = sum(
        F.kl_div(s.log_softmax(1), t.softmax(1), reduction='batchmean')
        for s, t in ((own, shown), (own.t(), shown.t()))) / 2
    torch.testing.assert_close(
        losses['distill.loss_similarity'],
        0.5 * expected,
        atol=1e-4,
        rtol=1e-3)
    parsed, logs = model.parse_losses(losses)
    torch.testing.assert_close(
        parsed, sum(v for k, v in losses.items() if 'loss' in k))
    assert {'loss_cls', 'distill.loss_forward',
            'distill.loss_backward'} <= set(logs)
    parsed.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_teacher_sees_the_colours_of_the_clip(folder):
    """The clips are RGB, and no channel is turned round."""
    model, teacher = make(folder)
    inputs = model.data_preprocessor(batch([0]), True)['inputs']
    seen = teacher.adapt_inputs(inputs)
    mean, std, _ = teacher.normalisation()
    pixels = seen[0] * std[..., None] + mean[..., None]
    torch.testing.assert_close(pixels.round().to(torch.uint8),
                               batch([0])['inputs'][0])


def test_plain_weights_come_out(folder):
    model, _ = make(folder)
    plain = MODELS.build(retrieval_cfg())
    found = plain.load_state_dict(model.state_dict(), strict=False)
    assert not found.missing_keys
    assert all('distiller' in k for k in found.unexpected_keys)
    names = ' '.join(model.state_dict())
    assert 'teacher' not in names


def test_calibration_teaches_the_aligner_alone(folder):
    model, _ = make(folder)
    model.distiller.calibrating = True
    losses = step(model)
    assert 'loss_cls' not in losses
    assert 'distill.loss_similarity' not in losses
    model.parse_losses(losses)[0].backward()
    assert not model.head.video_proj.weight.grad.any()
    assert any(p.grad.any() for p in model.distiller.aligner.parameters())


def test_progress_scales_the_similarities(folder):
    model, _ = make(folder)
    full = step(model)['distill.loss_similarity']
    model.distiller.progress = 0.25
    torch.testing.assert_close(
        step(model)['distill.loss_similarity'], 0.25 * full)
    model.distiller.progress = 0.
    assert 'distill.loss_similarity' not in step(model)


def test_teacher_without_captions(folder):
    with pytest.raises(ValueError, match='CLIP4ClipTeacher'):
        make(folder, teacher=OpenCLIPTeacher)
    model, _teacher = make(
        folder, teacher=OpenCLIPTeacher, similarity_weight=0.)
    assert 'distill.loss_similarity' not in step(model)


def test_captions_may_be_shorter_than_the_teachers(folder):
    _, teacher = make(folder)
    ids = torch.tensor([[1, 2, 8, 15, 0, 0]])
    torch.testing.assert_close(
        teacher.text_features(dict(input_ids=ids[:, :4])),
        teacher.text_features(dict(input_ids=ids)))
    with pytest.raises(ValueError, match='max_length'):
        teacher.text_features(dict(input_ids=ids.repeat(1, 2)))


def test_bad_options_are_named(folder):
    with pytest.raises(ValueError, match='similarity_weight=-1'):
        make(folder, similarity_weight=-1.)
    cfg = retrieval_cfg(distiller=dict(logit_weight=1.))
    with pytest.raises(ValueError, match='no classes'):
        MODELS.build(cfg)
    with pytest.raises(ValueError, match='scale=0'):
        CLIP4ClipTeacher(str(folder), scale=0)
    with pytest.raises(ValueError, match='both towers'):
        CLIP4ClipTeacher(str(folder), tower='text')


def test_forgotten_hook_is_named():
    with pytest.raises(RuntimeError, match='BidirectionalDistillHook'):
        step(MODELS.build(retrieval_cfg(distiller={})))


@pytest.mark.parametrize('tubelet_size', [1, 2])
def test_whole_recipe(tmp_path, folder, tubelet_size):
    """Clone from the CLIP's ViT, distil, and go on without the teacher."""
    model = retrieval_cfg('CrossMambaHead', {}, tubelet_size, num_candidates=3)
    loader = dict(batch_size=8, num_workers=0, dataset=dict(type='ToyVideos'))
    weights = str(folder / 'open_clip_model.pth')
    runner = make_runner(
        tmp_path / 'run',
        model, [
            dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=weights),
            dict(
                type='transmamba_mm.BidirectionalDistillHook',
                teacher=dict(
                    type='transmamba_mm.CLIP4ClipTeacher',
                    model_name=str(folder)),
                stages=[
                    dict(kind='distillation', epochs=1),
                    dict(kind='finetune')
                ])
        ],
        epochs=2,
        train_dataloader=dict(
            **loader, sampler=dict(type='DefaultSampler', shuffle=True)),
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None)
    kernel = torch.load(weights)['visual.conv1.weight']
    cloned = []
    hook = runner.hooks
    runner.call_hook('before_run')
    for h in hook:
        if type(h).__name__ == 'WeightSubcloneHook':
            h.before_train(runner)
            cloned.append(
                runner.model.backbone.patch_embed.proj.weight.clone())
    assert cloned[0].shape == (32, 3, tubelet_size, 4, 4)
    rows = {tuple(k.flatten().tolist()) for k in kernel}
    middle = cloned[0].sum(dim=2)
    assert all(tuple(k.flatten().tolist()) in rows for k in middle)
    runner.train()
    logs = runner.message_hub.log_scalars
    for name in ('loss', 'rerank', 'nce', 'distill.loss_similarity'):
        assert math.isfinite(logs[f'train/{name}'].current())
