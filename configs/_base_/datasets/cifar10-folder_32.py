# CIFAR-10 kept as images, one folder a class in train and test; reading BGR.
# Decoded once, then augmented in whole batches on the device
data_root = 'data/cifar10/'

data_preprocessor = dict(
    type='transmamba_mm.AugmentingDataPreprocessor',
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True,
    crop_padding=4,
    flip_prob=0.5)

pipeline = [dict(type='transmamba_mm.LoadImage')]

train_dataloader = dict(
    batch_size=256,
    num_workers=0,
    collate_fn=dict(type='transmamba_mm.keep_batch'),
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.ClassBalancedSubset',
        fraction=1.0,
        seed=0,
        dataset=dict(
            type='transmamba_mm.CachedImageFolder',
            data_root=data_root,
            data_prefix='train',
            pipeline=pipeline)))
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    collate_fn=dict(type='transmamba_mm.keep_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.CachedImageFolder',
        data_root=data_root,
        data_prefix='test',
        test_mode=True,
        pipeline=pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
