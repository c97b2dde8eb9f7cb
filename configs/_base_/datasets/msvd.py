# MSVD, about 40 captions a video, each a query of its own in the test
data_root = 'data/msvd/'

# frames are read as RGB; mean and deviation are ImageNet's
data_preprocessor = dict(
    type='transmamba_mm.ClipDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=False)

tokenize = dict(
    type='transmamba_mm.TokenizeText',
    tokenizer=dict(type='open_clip'),
    max_length=32)
train_pipeline = [
    dict(type='transmamba_mm.LoadVideo', num_frames=8),
    dict(type='transmamba_mm.CropClip', size=224, scale=(0.5, 1.0)), tokenize,
    dict(type='transmamba_mm.PackVideoText')
]
test_pipeline = [
    dict(type='transmamba_mm.LoadVideo', num_frames=8),
    dict(type='transmamba_mm.ResizeClip', scale=224),
    dict(type='transmamba_mm.CropClip', size=224), tokenize,
    dict(type='transmamba_mm.PackVideoText')
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.VideoTextDataset',
        data_root=data_root,
        data_format='msvd',
        ann_file='AllVideoDescriptions.txt',
        split_file='train_list.txt',
        data_prefix=dict(video='videos'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.VideoTextDataset',
        data_root=data_root,
        data_format='msvd',
        ann_file='AllVideoDescriptions.txt',
        split_file='val_list.txt',
        data_prefix=dict(video='videos'),
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(type='transmamba_mm.TextVideoRetrievalMetric')
test_dataloader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.VideoTextDataset',
        data_root=data_root,
        data_format='msvd',
        ann_file='AllVideoDescriptions.txt',
        split_file='test_list.txt',
        data_prefix=dict(video='videos'),
        test_mode=True,
        pipeline=test_pipeline))
test_evaluator = val_evaluator
