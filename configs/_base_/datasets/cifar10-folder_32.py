# CIFAR-10 kept as images, one folder a class in train and test; reading BGR
data_root = 'data/cifar10/'

data_preprocessor = dict(
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True)

train_pipeline = [
    dict(type='transmamba_mm.LoadImage'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='transmamba_mm.LoadImage'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
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
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.ImageFolderDataset',
        data_root=data_root,
        data_prefix='test',
        pipeline=test_pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
