"""The split that a dataset itself assigns to an image, read from the names of folders, files and tables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

TRAIN, VALIDATION, TEST, PRIVATE_TEST = "train", "validation", "test", "private_test"
EVALUATION = "evaluation"  # the test split, unless there is another one
WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "publictest", "holdout"), TEST),
    **dict.fromkeys(("privatetest",), PRIVATE_TEST),
    **dict.fromkeys(("eval", "evaluation", "evaluate"), EVALUATION),
}
WRAPPERS = {"images", "image", "imgs", "img", "faces", "face", "photos", "data", "dataset", "crops", "cropped"}
WORD_ENDS = ("set", "data", "split", "s")  # trainset, testdata
EXAMPLES = "train, validation, test"
# The word before a separator or a number, and the word after a number.
FILE_WORDS = (re.compile(r"([A-Za-z]+)[_\-\d]"), re.compile(r".*\d[_-]([A-Za-z]+)$"))
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class OfficialSplits:
    """The splits of a dataset.

    Attributes:
        splits: Split per image, one of dataset.OFFICIAL_SPLITS; None where the data assigns none.
        notes: What a user should know about them.
        problem: Why they cannot be used, with the remedy; None where they can be used, or there are none.
    """

    splits: tuple[str | None, ...]
    notes: tuple[str, ...] = ()
    problem: str | None = None


def split_of_name(name: str) -> str | None:
    """Return the split that a name such as ``train_set``, ``FER2013Test`` or ``PrivateTest`` means.

    Returns:
        One of dataset.OFFICIAL_SPLITS, or EVALUATION. None if the name means no split, or two as ``train_test`` does.
    """
    words = [word.lower() for word in WORD.findall(name)]
    found = {split for word in words if (split := _split_of_word(word))}
    if found == {TEST} and "private" in words:
        return PRIVATE_TEST
    return found.pop() if len(found) == 1 else None


def split_of_file_name(file_name: str) -> str | None:
    """Return the split that a file name means, as in ``PublicTest_123.jpg``, ``test-7.png`` or ``7_train.png``.

    Returns:
        As split_of_name.
    """
    words = [match[1].lower() for pattern in FILE_WORDS if (match := pattern.match(PurePosixPath(file_name).stem))]
    return next((WORDS[word] for word in words if word in WORDS), None)


def _split_of_word(word: str) -> str | None:
    """Return the split of a word in small letters, also with one of WORD_ENDS."""
    return WORDS.get(word) or next((WORDS[start] for end in WORD_ENDS if (start := word.removesuffix(end)) in WORDS), None)


def split_of_image(folders: Sequence[str], file_name: str) -> str | None:
    """Return the split of an image.

    Args:
        folders: Names of the folders above its class folder, the outer ones first. The one next to the class decides.
        file_name: Its file name, such as ``PublicTest_123.jpg``. It counts if no folder names a split, and in a test folder for
            FER2013's two test sets.

    Returns:
        As split_of_name.
    """
    of_file = split_of_file_name(file_name)
    of_folder = next((split for name in reversed(folders) if (split := split_of_name(name))), None)
    if of_folder == TEST and of_file == PRIVATE_TEST:
        return PRIVATE_TEST
    return of_folder or of_file


def resolve_splits(found: Sequence[str | None], unknown: Sequence[str] = ()) -> OfficialSplits:
    """Decide what the splits of all images mean together.

    Args:
        found: Split per image, from split_of_image or split_of_name.
        unknown: Names that may mean a split but are not understood.
    """
    kinds = set(found) - {None}
    rename: dict[str | None, str | None] = {}
    notes: tuple[str, ...] = ()
    if EVALUATION in kinds:
        rename[EVALUATION] = VALIDATION if kinds & {TEST, PRIVATE_TEST} else TEST
    if PRIVATE_TEST in kinds and TEST not in kinds:  # a release with only the PrivateTest images
        rename[PRIVATE_TEST] = TEST
    resolved = {rename.get(kind, kind) for kind in kinds}
    if resolved == {TRAIN, VALIDATION}:
        rename = {kind: TEST for kind in kinds if rename.get(kind, kind) == VALIDATION}
        notes = ("the data has no test split: its validation split serves as test, and a part of train as validation",)
    splits = tuple(rename.get(split, split) for split in found)
    without = splits.count(None)
    problem = None
    if unknown:
        problem = f"{', '.join(sorted(set(unknown)))} may name splits but cannot be understood. Rename them: {EXAMPLES}"
    elif kinds and without:
        problem = f"{without} of {len(splits)} images are in no split, the others are. Put them into one: {EXAMPLES}"
    return OfficialSplits(splits, notes, problem)
