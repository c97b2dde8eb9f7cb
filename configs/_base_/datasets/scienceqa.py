# ScienceQA, scienceqa.github.io: questions with an image, several choices,
# answered by a letter
data_root = 'data/scienceqa/'
# folder of the language model's tokenizer; mean and deviation are CLIP's
tokenizer = 'data/tokenizer'

data_preprocessor = dict(
    type='transmamba_mm.LlavaDataPreprocessor',
    mean=[122.7709, 116.7460, 104.0937],
    std=[68.5005, 66.6322, 70.3232],
    to_rgb=True)

load_image = [
    dict(type='transmamba_mm.LoadImage'),
    dict(type='transmamba_mm.PadToSquare'),
    dict(type='Resize', scale=(336, 336), interpolation='bicubic'),
]
train_pipeline = [
    *load_image,
    dict(type='transmamba_mm.AskMultipleChoice'),
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        template='v1'),
    dict(type='transmamba_mm.PackConversation'),
]
test_pipeline = [
    *load_image,
    dict(type='transmamba_mm.AskMultipleChoice'),
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        for_answer=True,
        template='v1'),
    dict(type='transmamba_mm.PackConversation'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.ScienceQA',
        data_root=data_root,
        split='train',
        image_only=True,
        split_file='pid_splits.json',
        ann_file='problems.json',
        data_prefix=dict(img_path='train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.ScienceQA',
        data_root=data_root,
        split='test',
        image_only=True,
        split_file='pid_splits.json',
        ann_file='problems.json',
        data_prefix=dict(img_path='test'),
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(type='mmpretrain.ScienceQAMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
