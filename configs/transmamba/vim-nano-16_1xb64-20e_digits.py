_base_ = [
    '../_base_/models/vim-nano-16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/adamw_1xb64-20e.py',
    '../_base_/transmamba_runtime.py',
]
