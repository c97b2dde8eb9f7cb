import hashlib
import os
import os.path as osp

import torch


def save_tagged(checkpoint: dict, path: str) -> str:
    """Save a checkpoint under a name that holds its checksum.

    Args:
        checkpoint (dict): What to save.
        path (str): Wanted name; 8 digits of the SHA-256 are added to it.

    Returns:
        str: The name written.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    partial = path + '.part'
    torch.save(checkpoint, partial)
    with open(partial, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    stem, ending = osp.splitext(path)
    final = f'{stem}-{digest[:8]}{ending or ".pth"}'
    os.replace(partial, final)
    return final
