# MSR-VTT, 9k training videos, 20 captions each, tested on the 1k-A split.
# As is usual with this benchmark, it is validated on the test videos: report
# the last epoch, not the best.
data_root = 'data/msrvtt/'

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
        data_format='msrvtt',
        ann_file='MSRVTT_data.json',
        split_file='MSRVTT_train.9k.csv',
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
        data_format='msrvtt',
        split_file='MSRVTT_JSFUSION_test.csv',
        data_prefix=dict(video='videos'),
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(type='transmamba_mm.TextVideoRetrievalMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
