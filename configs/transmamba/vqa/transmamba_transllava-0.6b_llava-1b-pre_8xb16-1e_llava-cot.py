_base_ = [
    '../../_base_/models/transllava-0.6b.py',
    '../../_base_/datasets/llava-cot.py',
    '../../_base_/schedules/llava-cot_8xb16-1e.py',
    '../../_base_/llava_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-1b_8xb16-1e_llava-cot/iter_781.pth}}'  # noqa: E501

# goes on from the second stage, on 100k answers with their reasoning
load_from = 'work_dirs/transmamba_transllava-0.6b_llava-1b-pre_8xb16-1e_llava-instruct/iter_5197.pth'  # noqa: E501
optim_wrapper = dict(optimizer=dict(lr=2e-4))

model = dict(
    tokenizer={{_base_.tokenizer}},
    type='transmamba_mm.DistillTransLlava',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=2048,
        teacher_depth=16))

custom_hooks = [
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.LlavaTeacher',
            config='{{ fileDirname }}/llava-1b_8xb16-1e_llava-cot.py',
            checkpoint=teacher_checkpoint)),
]
