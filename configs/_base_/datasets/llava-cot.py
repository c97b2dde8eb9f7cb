# LLaVA-CoT-100k: answers in the parts summary, caption, reasoning and
# conclusion; tags=('CONCLUSION', ) in the dataset checks for them
# huggingface.co/datasets/Xkev/LLaVA-CoT-100k
data_root = 'data/llava-cot/'
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
        ann_file='train.jsonl',
        data_prefix=dict(img_path='images'),
        insert_image=True,
        on_missing='skip',
        fraction=1.0,
        seed=0,
        pipeline=train_pipeline))
