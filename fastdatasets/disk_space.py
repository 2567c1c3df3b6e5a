"""Checking free disk space for a run, before anything is sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from store import RunFolder, UserError, WorkStore
from store.export_options import ExportOptions

TOKEN_BYTES = 4  # of UTF-8 text
MIN_SHARE = 0.5  # of the expected size, which is an estimate
MEGABYTE = 1_000_000


def check_disk_space(
    folder: RunFolder, store: WorkStore, options: ExportOptions, say: Callable[[str], None]
) -> None:
    """Compare the free space with the expected size of the store and of each file.

    Raises UserError below MIN_SHARE of the expected size, unless something was sent already: its
    answers have to be collected. Warns below the expected size or, where no length is known, below
    the size of answers at the limit.
    """
    run, volume = store.run(), store.exports.volume()
    answers = run.samples * (1 + run.num_aug)  # to each record
    limit = run.params["max_tokens"]
    known = volume.answer_tokens is not None
    texts = volume.text_bytes * answers
    token_bytes = volume.records * answers * TOKEN_BYTES
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
        if copies * expected * MIN_SHARE - written > free and not store.requests.has_sent():
            raise UserError(
                f"{reported}: free disk space there, or choose a folder on another disk"
            )
        say(f"warning: {reported}")


def _places(folder: RunFolder, options: ExportOptions) -> Iterator[tuple[Path, int, int]]:
    """For each disk: a folder, the number of copies of the rows, and bytes already written.

    The run's folder has a copy in the store and one in each file.
    """
    copies, written = 2 + len(options.formats), folder.store_path.stat().st_size
    if options.output_file is not None:
        parent = Path(options.output_file).parent
        if parent.stat().st_dev != folder.path.stat().st_dev:
            yield parent, 1, 0
        else:
            copies += 1
    yield folder.path, copies, written
