_base_ = [
    '../../_base_/models/transllava-0.6b.py',
    '../../_base_/datasets/llava-pretrain.py',
    '../../_base_/schedules/llava_8xb32-1e.py',
    '../../_base_/llava_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-1b_8xb16-1e_llava-instruct/iter_5197.pth}}'  # noqa: E501

# the projector alone, in front of a language model that was cloned; its state
# space parameters come from a Mamba that was trained on language
model = dict(
    tokenizer={{_base_.tokenizer}}, freeze=('vision_tower', 'language_model'))

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint,
        prefix='language_model.',
        plan=dict(preset='linear', num_heads=32, first_n='all'),
        ssm_checkpoint='checkpoints/mamba-1.4b-hf'),
]
