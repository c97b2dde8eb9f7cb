# easy-VQA: 48,248 questions on 5,000 images of one coloured shape, 64 pixels.
# The data comes with `pip install easy-vqa`. It has no validation split: the
# last 400 of the 4,000 training images are held out for it
# github.com/vzhou842/easy-VQA
data_root = ''
# made by tools/dataset_converters/word_tokenizer.py
tokenizer = 'data/easy-vqa/tokenizer'

data_preprocessor = dict(
    type='transmamba_mm.LlavaDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True)

train_pipeline = [
    dict(type='transmamba_mm.LoadImage', cache=True),
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
    type='transmamba_mm.EasyVQADataset',
    data_root=data_root,
    split='train',
    val_images=400,
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
        type='transmamba_mm.EasyVQADataset',
        data_root=data_root,
        split='val',
        val_images=400,
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(
    type='transmamba_mm.VQAAnswerMetric', train_dataset=train_dataset)
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.EasyVQADataset',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline))
test_evaluator = val_evaluator
