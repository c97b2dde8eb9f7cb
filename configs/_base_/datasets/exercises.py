# Free exercise database: two real frames, interpolated. Made by
# tools/dataset_converters/exercises.py
data_root = 'data/exercises/'

# Frames are read as RGB; mean and deviation are ImageNet's. The clips are read
# once, and random windows of them are cut on the device
data_preprocessor = dict(
    type='transmamba_mm.VideoTextDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    crop_size=112)

tokenize = dict(
    type='transmamba_mm.TokenizeText',
    tokenizer=dict(type='open_clip'),
    max_length=77)
train_pipeline = [
    dict(type='transmamba_mm.LoadVideo', num_frames=8),
    dict(type='transmamba_mm.CropClip', size=128), tokenize,
    dict(type='transmamba_mm.PackVideoText')
]
test_pipeline = [
    dict(type='transmamba_mm.LoadVideo', num_frames=8),
    dict(type='transmamba_mm.ResizeClip', scale=112),
    dict(type='transmamba_mm.CropClip', size=112), tokenize,
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
        captions='random',
        data_prefix=dict(video='clips'),
        pipeline=train_pipeline))
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
        pipeline=test_pipeline))
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
        pipeline=test_pipeline))
test_evaluator = val_evaluator
