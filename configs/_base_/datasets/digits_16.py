# Handwritten digits of scikit-learn as 16-pixel images, one folder a class;
# `make quickstart` writes them. Small enough for a CPU, so no workers.
data_root = 'data/digits/'

data_preprocessor = dict(
    num_classes=10,
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True)

train_pipeline = [
    dict(type='transmamba_mm.LoadImage'),
    dict(type='Resize', scale=(16, 16)),
    dict(type='RandomCrop', crop_size=16, padding=1),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='transmamba_mm.LoadImage'),
    dict(type='Resize', scale=(16, 16)),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.ClassBalancedSubset',
        fraction=1.0,
        seed=0,
        dataset=dict(
            type='transmamba_mm.ImageFolderDataset',
            data_root=data_root,
            data_prefix='train',
            pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.ImageFolderDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
