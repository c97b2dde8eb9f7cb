# DAQUAR: questions on 1,449 photos of rooms, split by image. In the usual
# split most test images are training images too. 80 pixels, the sides in any
# ratio
data_root = 'data/daquar/'
# made by tools/dataset_converters/word_tokenizer.py
tokenizer = 'data/daquar/tokenizer'

data_preprocessor = dict(
    type='transmamba_mm.LlavaDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True)

train_pipeline = [
    dict(type='transmamba_mm.LoadImage', cache=True),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=80,
        crop_ratio_range=(0.7, 1.0)),
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        template='short',
        cache=True,
        max_length=128),
    dict(type='transmamba_mm.PackConversation'),
]
test_pipeline = [
    dict(type='transmamba_mm.LoadImage', cache=True),
    dict(type='Resize', scale=(80, 80)),
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        template='short',
        cache=True,
        for_answer=True,
        max_length=128),
    dict(type='transmamba_mm.PackConversation'),
]

train_dataset = dict(
    type='transmamba_mm.DaquarDataset',
    data_root=data_root,
    split='train',
    fraction=1.0,
    seed=0)
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline, **train_dataset))
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.DaquarDataset',
        data_root=data_root,
        split='val',
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(
    type='transmamba_mm.VQAAnswerMetric', train_dataset=train_dataset)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
