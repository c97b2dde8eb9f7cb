# VQAv2, on COCO images, visualqa.org. Scored as the challenge does (ten
# answers a question), per answer type; `VQAAcc` is MMPretrain's own metric
data_root = 'data/coco/'
# folder of the language model's tokenizer; mean and deviation are CLIP's
tokenizer = 'data/tokenizer'
short_answer = '\nAnswer the question using a single word or phrase.'

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
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        question_suffix=short_answer,
        template='v1'),
    dict(type='transmamba_mm.PackConversation'),
]
test_pipeline = [
    *load_image,
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        question_suffix=short_answer,
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
        type='transmamba_mm.COCOVQA',
        data_root=data_root,
        data_prefix='train2014',
        question_file='v2_OpenEnded_mscoco_train2014_questions.json',
        ann_file='v2_mscoco_train2014_annotations.json',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='transmamba_mm.COCOVQA',
        data_root=data_root,
        data_prefix='val2014',
        question_file='v2_OpenEnded_mscoco_val2014_questions.json',
        ann_file='v2_mscoco_val2014_annotations.json',
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = [
    dict(type='transmamba_mm.VQAAnswerMetric'),
    dict(type='mmpretrain.VQAAcc')
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
