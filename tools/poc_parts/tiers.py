"""Which presets fit the images of a folder."""
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

ROOT = Path(__file__).resolve().parents[2]
#: Images that are looked at to find their usual size.
SAMPLE = 200


@dataclass(frozen=True)
class Tier:
    """Presets for images of one size.

    Args:
        size (int): Side in pixels that images are resized to.
        students (Dict[str, str]): Family to name of its preset.
        teacher (str): Recipe of the teacher that is trained here.
        dataset (str): Name of the dataset's base config.
        schedule (str): Name of the students' schedule.
        batch_size (int): Images of a step in these recipes.
    """
    size: int
    students: Dict[str, str]
    teacher: str
    dataset: str
    schedule: str
    batch_size: int

    def student_bases(self, family: str) -> List[Path]:
        """Return the base configs of a student.

        Args:
            family (str): Key of ``students``.

        Returns:
            List[Path]: Model, data, schedule and runtime.
        """
        base = ROOT / 'configs' / '_base_'
        return [
            base / 'models' / f'{self.students[family]}.py',
            base / 'datasets' / f'{self.dataset}.py',
            base / 'schedules' / f'{self.schedule}.py',
            base / 'transmamba_runtime.py'
        ]

    def teacher_bases(self) -> List[Path]:
        """Return the recipe of the teacher.

        Returns:
            List[Path]: One config.
        """
        return [ROOT / 'configs' / 'transmamba' / f'{self.teacher}.py']


def _named(suffix: str, vmamba: str) -> Dict[str, str]:
    names = {f: f'{f}-{suffix}' for f in ('vim', 'plainmamba', 'videomamba')}
    return dict(names, vmamba=f'vmamba-{vmamba}')


TIERS = {
    tier.size: tier
    for tier in (
        Tier(16, _named('nano-16', 'nano-16'), 'vit-nano-16_1xb64-20e_digits',
             'digits_16', 'adamw_1xb64-20e', 64),
        Tier(32, _named('tiny-32',
                        'tiny-32'), 'vit-tiny-32_1xb256-200e_cifar10-folder',
             'cifar10-folder_32', 'adamw_1xb256-30e', 256),
        Tier(224, _named('tiny', 's1l8-t'), 'deit-small_8xb128-100e_in100',
             'imagenet100_224', 'adamw_8xb128-300e', 128),
    )
}


def choose_tier(sides: Sequence[int]) -> Tier:
    """Choose the presets by the usual size of the images (our choice).

    Args:
        sides (Sequence[int]): Shorter sides of some images, in pixels.

    Returns:
        Tier: 16 pixels up to a median of 20, 32 up to 64, 224 beyond.
    """
    middle = statistics.median(sides)
    return TIERS[16 if middle <= 20 else 32 if middle <= 64 else 224]


def short_sides(files: Sequence[Path]) -> List[int]:
    """Read the size of images, of a sample if there are many.

    Args:
        files (Sequence[Path]): Readable images.

    Returns:
        List[int]: Shorter sides in pixels; only headers are read.
    """
    from PIL import Image
    out = []
    for path in files[::-(-len(files) // SAMPLE)]:
        with Image.open(path) as image:
            out.append(min(image.size))
    return out
