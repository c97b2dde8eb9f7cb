# MSR-VTT, 9k training videos; else as the 7k split
_base_ = 'msrvtt-7k.py'

train_dataloader = dict(dataset=dict(split_file='MSRVTT_train.9k.csv'))
