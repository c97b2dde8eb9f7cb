from mmcv.transforms import BaseTransform

from transmamba_mm.registry import TRANSFORMS

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'


@TRANSFORMS.register_module()
class AskMultipleChoice(BaseTransform):
    """Write a question with choices as LLaVA asks ScienceQA's.

    The hint stands before the question and the lettered choices after it.
    The index in ``gt_answer`` stays, for MMPretrain's ``ScienceQAMetric``;
    its letter becomes ``target_answer``, which is learnt.

    Args:
        with_hint (bool): Whether the hint is given. Defaults to True.
        suffix (str): Text at the end. Defaults to LLaVA's, which asks for
            the letter.
    """

    def __init__(
        self,
        with_hint: bool = True,
        suffix: str = "\nAnswer with the option's letter from the given "
        'choices directly.'
    ) -> None:
        self.with_hint = with_hint
        self.suffix = suffix

    def transform(self, results: dict) -> dict:
        """Rewrite a sample's question.

        Args:
            results (dict): Holds ``question``, ``choices``, and as a rule
                ``hint`` and ``gt_answer``.

        Returns:
            dict: The sample with another ``question``, and with
            ``target_answer`` if it had an answer.

        Raises:
            ValueError: There are no choices, or more than 26, or the answer
                is none of them.
        """
        choices = results.get('choices') or ()
        if not 0 < len(choices) <= len(LETTERS):
            raise ValueError(
                f'AskMultipleChoice needs 1 to {len(LETTERS)} `choices`, got '
                f'{len(choices)} in the question {results["question"]!r}')
        lines = [results['hint']
                 ] if self.with_hint and results.get('hint') else []
        lines.append(results['question'])
        lines += [f'{LETTERS[i]}. {text}' for i, text in enumerate(choices)]
        results['question'] = '\n'.join(lines) + self.suffix
        answer = results.get('gt_answer')
        if answer is not None:
            if not 0 <= int(answer) < len(choices):
                raise ValueError(
                    f'the answer {answer!r} is none of the {len(choices)} '
                    f'choices of the question {lines[0]!r}')
            results['target_answer'] = LETTERS[int(answer)]
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(with_hint={self.with_hint}, '
                f'suffix={self.suffix!r})')
