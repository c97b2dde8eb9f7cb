# CIFAR-10 images (JPEG copy) that move: "a dog moving left slowly". Made by
# tools/dataset_converters/motion_captions.py
data_root = 'data/motion_captions/'

# Frames are read as RGB, all clips once; mean and deviation are ImageNet's
data_preprocessor = dict(
    type='transmamba_mm.VideoTextDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375])

tokenize = dict(
    type='transmamba_mm.TokenizeText',
    tokenizer=dict(type='open_clip'),
    max_length=16)
pipeline = [
    dict(type='transmamba_mm.LoadVideo', num_frames=8),
    dict(type='transmamba_mm.ResizeClip', scale=(64, 64)), tokenize,
    dict(type='transmamba_mm.PackVideoText')
]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='transmamba_mm.keep_batch'),
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.CachedVideoTextDataset',
        data_root=data_root,
        ann_file='train.jsonl',
        data_prefix=dict(video='clips'),
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=160,
    num_workers=0,
    collate_fn=dict(type='transmamba_mm.keep_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.CachedVideoTextDataset',
        data_root=data_root,
        ann_file='val.jsonl',
        data_prefix=dict(video='clips'),
        test_mode=True,
        pipeline=pipeline))
val_evaluator = dict(type='transmamba_mm.TextVideoRetrievalMetric')
test_dataloader = dict(
    batch_size=160,
    num_workers=0,
    collate_fn=dict(type='transmamba_mm.keep_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.CachedVideoTextDataset',
        data_root=data_root,
        ann_file='test.jsonl',
        data_prefix=dict(video='clips'),
        test_mode=True,
        pipeline=pipeline))
test_evaluator = val_evaluator
