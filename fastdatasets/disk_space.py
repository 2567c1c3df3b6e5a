"""Whether the disk has room for what a run will write: looked at before anything is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from store import RunFolder, UserError, WorkStore
from store.runs import ExportOptions

TOKEN_BYTES = 4  # of UTF-8 text
TOO_LITTLE = 0.5  # of what is expected, which is an estimate
MEGABYTE = 1_000_000


def check_disk_space(
    folder: RunFolder, store: WorkStore, options: ExportOptions, say: Callable[[str], None]
) -> None:
    """Compare the free space with what the run's rows take, in the store and in each file.

    Raises UserError where there is less than half of the expected size, unless something was sent
    already: its answers are to be collected. Warns where there is less than that size or, where
    nothing tells an answer's length, than all answers at the limit take.
    """
    run, volume = store.run(), store.exports.volume()
    variants = 1 + run.num_aug
    limit = run.params["max_tokens"]
    known = volume.answer_tokens is not None
    texts = volume.text_bytes * variants
    token_bytes = volume.records * variants * TOKEN_BYTES
    expected = texts + token_bytes * (volume.answer_tokens or 0)
    likely = expected if known else texts + token_bytes * limit
    for place, copies, written in _places(folder, options):
        free = shutil.disk_usage(place).free
        needed = copies * likely - written
        if needed <= free:
            continue
        reported = (
            f"{'about' if known else 'up to'} {needed / MEGABYTE:.0f} MB are needed in {place}, "
            f"and {free / MEGABYTE:.0f} MB are free"
        )
        if copies * expected * TOO_LITTLE - written > free and not store.requests.has_sent():
            raise UserError(
                f"{reported}: make room on that disk, or choose a folder on another one"
            )
        say(f"warning: {reported}")


def _places(folder: RunFolder, options: ExportOptions) -> Iterator[tuple[Path, int, int]]:
    """A folder on each disk that is written to, how often the rows are, and bytes that are there.

    In the run's folder they are in the store and in each of its files.
    """
    copies, written = 2 + len(options.formats), folder.store_path.stat().st_size
    if options.output_file is not None:
        parent = Path(options.output_file).parent
        if parent.stat().st_dev != folder.path.stat().st_dev:
            yield parent, 1, 0
        else:
            copies += 1
    yield folder.path, copies, written
