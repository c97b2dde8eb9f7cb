"""Made-up results, in the form that the page takes."""


def spread(mean, std=0.3):
    return dict(mean=mean, std=std, values=[mean - std, mean, mean + std])


def make_group(kind, fraction, accuracy, **others):
    return dict(
        kind=kind,
        fraction=fraction,
        accuracy=spread(accuracy),
        class_mean=spread(accuracy - 0.1),
        per_class=[accuracy] * 3,
        calibration_error=spread(4.2),
        reliability=[
            dict(confidence=c, accuracy=c - 3, images=40) for c in (35, 75, 97)
        ],
        images=round(1437 * fraction),
        epochs=20,
        train_seconds=spread(71., 3.),
        curves=[[[5, 70. + i], [10, 80. + i], [20, accuracy]]
                for i in range(3)],
        **others)


def make_faults(inherited):
    return dict(
        agreement=96.,
        wrong_too=inherited + 8,
        inherited=inherited,
        own_mistakes=1.5)


def make_costs():
    nothing = dict(data=None, training=None, total=None, month=None)
    return dict(
        currency='EUR',
        prices=dict(
            hour=None, image=None, serve_hour=None, images_per_month=None),
        teacher_seconds=27.,
        teacher_month=None,
        scratch=dict(nothing, images=1437, train_seconds=79.),
        transmamba=dict(nothing, images=1080, train_seconds=98.),
        saving=None)


def make_speed(model, batch):
    return dict(
        model=model,
        device='cpu',
        card='x86_64 CPU, 1 threads',
        threads=1,
        batch=batch,
        parameters=131210,
        latency_ms=12.5 * batch,
        spread_ms=0.4,
        images_per_s=80.,
        memory_mib=14.2)


def make_conditions():
    return dict(
        notes=['There is no validation folder.'],
        limits=['The validation images are from the same folder.'],
        made=dict(
            command='python tools/poc.py flowers',
            runs=[dict(title='Teacher', command='python tools/train.py x')],
            versions=dict(python='3.11', torch='2.13'),
            machine='a CPU',
            date='2026-01-31',
            minutes=12.3))


def make_report():
    """Return results of three seeds, with a teacher trained here."""
    difference = dict(
        difference=0.7,
        margin=0.9,
        of_seeds=0.6,
        of_images=0.6,
        outcome='open')
    verdict = dict(difference, kind='transmamba', fraction=0.75)
    return dict(
        title='flowers',
        task=dict(
            name='flowers',
            classes=3,
            images=1437,
            img_size=32,
            batch_size=64,
            jobs=2,
            amp=False),
        student='vim-tiny-32',
        teacher=dict(title='trained here', trained_here=True, fraction=0.75),
        seeds=3,
        validation_images=360,
        groups=[
            make_group('teacher', 0.75, 98.1),
            dict(
                make_group('scratch', 1., 97.1, faults=make_faults(20.)),
                accuracy=spread(97.1, 0.4)),
            make_group('transmamba', 0.75, 97.8, faults=make_faults(26.)),
        ],
        comparisons=[verdict],
        verdict=dict(verdict),
        classes=[
            dict(
                difference,
                name=name,
                train=300,
                validation=120,
                teacher=97.,
                scratch=96.,
                transmamba=96.7) for name in ('rose', 'tulip', 'daisy')
        ],
        costs=make_costs(),
        speed=[
            make_speed(model, batch) for model in ('teacher', 'student')
            for batch in (1, 32)
        ],
        **make_conditions())
