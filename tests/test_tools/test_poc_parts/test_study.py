"""What is made of a folder, and which trainings follow from it."""
import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from poc_parts import options, study, tiers


def write_folder(root, classes, side=40):
    rng = np.random.RandomState(0)
    for label, count in classes.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.randint(0, 255, (side, side + 5, 3)).astype('uint8')
            Image.fromarray(pixels).save(root / label / f'{i}.png')
    return root


def settings(root, work_dir, *flags):
    args = options.parse_args([str(root), *flags])
    return args, study.make_settings(args, work_dir)


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    root = write_folder(tmp_path / 'photos', dict(cat=60, dog=10, gnu=1))
    (root / 'cat' / 'broken.jpg').write_bytes(b'nothing')
    _, out = settings(root, tmp_path / 'work', '--fractions', '1')
    notes = '\n'.join(out.task.notes)
    assert '1 unreadable images are left out: cat/broken.jpg.' in notes
    assert 'single image are left out, since one cannot' in notes
    assert notes.count('gnu') == 1
    assert 'no validation folder' in notes
    assert 'The classes have 8 to 48 training images' in notes
    assert 'are 40 pixels: they are resized to 32 x 32.' in notes
    assert out.task.classes == ['cat', 'dog']
    again = settings(root, tmp_path / 'work', '--fractions', '1')[1]
    assert again.task == out.task


def test_even_classes_are_no_news(tmp_path):
    root = write_folder(tmp_path / 'photos', dict(cat=20, dog=10))
    _, out = settings(root, tmp_path / 'work', '--fractions', '1')
    assert not any('frequent' in note for note in out.task.notes)


@pytest.mark.parametrize('classes, flags, message', [
    (dict(cat=1, dog=9), [], 'usable images of 1 classes'),
    (dict(cat=30, dog=30), ['--fractions', '0.05'], 'less than one batch'),
    (dict(cat=9, dog=9), ['--amp'], '--amp needs a card'),
])
def test_what_cannot_be_run_is_refused_at_once(tmp_path, classes, flags,
                                               message):
    if '--amp' in flags and study.torch.cuda.is_available():
        pytest.skip('there is a card')
    root = write_folder(tmp_path / 'photos', classes)
    with pytest.raises(SystemExit, match=message):
        settings(root, tmp_path / 'work', *flags)


@pytest.mark.parametrize('side, size', [(8, 16), (20, 16), (21, 32), (64, 32),
                                        (65, 224), (600, 224)])
def test_presets_follow_the_images(side, size):
    assert tiers.choose_tier([1, side, 5000]).size == size


def test_sizes_of_many_images_are_sampled(tmp_path, monkeypatch):
    root = write_folder(tmp_path / 'photos', dict(cat=9), side=12)
    monkeypatch.setattr(tiers, 'SAMPLE', 4)
    assert tiers.short_sides(sorted((root / 'cat').iterdir())) == [12] * 3


@pytest.mark.parametrize('tier', tiers.TIERS.values(), ids=str)
def test_all_presets_exist(tier):
    files = tier.teacher_bases()
    for family in ('vim', 'plainmamba', 'videomamba', 'vmamba'):
        files += tier.student_bases(family)
    assert len(files) == 17 and all(path.is_file() for path in files)


@pytest.mark.parametrize('size, family', [(16, 'vim'), (32, 'vmamba'),
                                          (224, 'videomamba')])
def test_configs_fit_the_folder(tmp_path, size, family):
    """Each run's config is complete and knows the user's classes."""
    root = write_folder(tmp_path / 'photos', dict(cat=30, dog=30, gnu=30))
    args, out = settings(root, tmp_path / 'work', '--size', str(size),
                         '--student', family)
    hooks = dict(weights='w.pth', teacher={}, embed_dims=7, depth=5)
    for kind in ('teacher', 'scratch', 'transmamba'):
        run = study.make_run(
            out, kind, 2, .5, hooks=hooks if kind == 'transmamba' else None)
        cfg = Config.fromfile(run.write_config())
        assert cfg.model.head.num_classes == 3
        assert cfg.data_preprocessor.num_classes == 3
        assert cfg.train_dataloader.batch_size == 4
        assert cfg.train_dataloader.dataset.fraction == .5
        assert cfg.train_cfg.max_epochs == 2
        assert cfg.val_evaluator.topk == cfg.test_evaluator.topk == (1, )
        assert cfg.test_dataloader == cfg.val_dataloader
        assert cfg.val_dataloader.dataset.classes == ['cat', 'dog', 'gnu']
        assert all(s.get('begin', 0) < 2 for s in cfg.param_scheduler)
        if kind == 'transmamba':
            assert cfg.model.distiller.teacher_dims == 7
            assert cfg.custom_hooks[0].checkpoint == 'w.pth'


def test_learning_rate_follows_the_batch(tmp_path):
    root = write_folder(tmp_path / 'photos', dict(cat=30, dog=30))
    _, out = settings(root, tmp_path / 'work', '--size', '16')
    cfg = Config.fromfile(study.make_run(out, 'scratch', 2).write_config())
    # 48 training images: batches of 4 where the recipe has 64 at 2e-3
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2e-3 / 4)


def test_each_seed_is_complete_before_the_next(tmp_path):
    args = options.parse_args(['x', '--seeds', '2', '--fractions', '.5'])
    assert study.wanted_students(args) == [
        ('scratch', 1., 0),
        ('transmamba', .5, 0),
        ('scratch', 1., 1),
        ('transmamba', .5, 1),
    ]


def test_a_budget_is_planned_from_test_runs_and_kept(tmp_path, monkeypatch):
    root = write_folder(tmp_path / 'photos', dict(cat=30, dog=30))
    args, out = settings(root, tmp_path / 'work', '--size', '16', '--budget',
                         '3', '--seeds', '2', '--jobs', '1')
    trained = []

    def run_all(runs):
        for run in runs:
            trained.append(run.kind)
            assert run.epochs == 1 and run.is_probe
            run.write_config()
            log = run.dir / 'x' / 'vis_data' / 'scalars.json'
            log.parent.mkdir(parents=True)
            rows = [dict(loss=1., time=.2, step=i) for i in range(1, 13)]
            rows.append({'accuracy/top1': 1., 'time': .1, 'step': 1})
            log.write_text('\n'.join(map(json.dumps, rows)))
            run.result_file.write_text('{}')

    monkeypatch.setattr(study.PocRun, 'wall_seconds', lambda self: 10.)
    monkeypatch.setattr(study.PocRun, 'checkpoint', lambda self: self.dir)
    monkeypatch.setattr(study.teachers, 'from_run',
                        lambda path: study.Teacher('toy', 'w.pth', {}, 64, 4))
    plan = study.get_plan(args, out, None, run_all)
    assert trained == ['teacher', 'scratch', 'transmamba']
    assert 0 < plan.share < 1 and plan.notes
    # 3 minutes, less a tenth, less three test runs of 10 seconds
    assert 60 < plan.seconds <= 162 - 30
    assert study.get_plan(args, out, None, run_all) == plan
    assert len(trained) == 3
