# LLaVA's second stage: 665k conversations; COCO, GQA, OCR-VQA, TextVQA and
# Visual Genome images below data_root, as LLaVA-1.5 arranges them. The 40k
# text-only conversations get a black image that no token stands for
# huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K
data_root = 'data/llava-instruct/'
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
    dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        template='v1',
        max_length=2048),
    dict(type='transmamba_mm.PackConversation'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='transmamba_mm.LlavaInstructDataset',
        data_root=data_root,
        ann_file='llava_v1_5_mix665k.json',
        data_prefix=dict(img_path=''),
        text_only='keep',
        blank_size=336,
        on_missing='skip',
        fraction=1.0,
        seed=0,
        pipeline=train_pipeline))
