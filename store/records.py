"""Records: rows that were sampled from the source, in sample order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.database.statements import QUERIES
from store.errors import UserError
from store.images import IMAGE_PAGE, Images, SampledImage
from store.runs import Dedup, Event, Selection, append_event

UNREADABLE_IMAGE = "with an image file that cannot be read"
NO_QUESTION = "without a question of the user"  # a row left out, an empty one for example
REPEATED = "that repeat a question (--dedup)"
NEARLY_REPEATED = "that nearly repeat a question (--dedup near)"
MAX_NAMED = 20

ReadImages = Callable[[str, Sequence[bytes | None] | None], Sequence[SampledImage]]
MAX_REASONS = 100


@dataclass(frozen=True, slots=True)
class BadRows:
    """Rows that cannot be read: how many, by the reason, and where the first ones are."""

    counts: dict[str, int] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)

    def add(self, where: str, why: str) -> None:
        """Count a row."""
        reason = why if why in self.counts or len(self.counts) < MAX_REASONS else "other reasons"
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(self.named) < MAX_NAMED:
            self.named.append(where)

    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


Questions = Callable[[], Iterator[list[tuple[str, str]]]]  # (text, context), in batches
NearDuplicates = Callable[[Questions], Iterable[bool]]
ALL_EQUAL = Selection()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the records of a source were sampled.

    rows: of the source; left_out: how many of them, by the reason. mapping: role -> column.
    rows_with_unused_turns: rows with turns after the question that is asked and its answer, or with
    instances after the first.
    unreadable_images: the first rows left out for an image file that cannot be read.
    bad_rows: those that were skipped since they cannot be read; neither in left_out nor records.
    """

    rows: int
    left_out: dict[str, int]
    rows_with_unused_turns: int
    unused_turns: int
    mapping: dict[str, str | None]
    bad_rows: BadRows = field(default_factory=BadRows)
    unreadable_images: list[int] = field(default_factory=list)

    @property
    def unused(self) -> str:
        """What the unused turns are."""
        if self.mapping.get("instances"):
            return "instances after the first"
        return "turns after the question that is asked"


class Records:
    """The records of a run."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._images = Images(database)

    def samplings(self) -> list[Sampling]:
        """How the records were sampled: of each source that is complete, in order."""
        rows = self._db.rows("samplings")
        return [msgspec.json.decode(detail, type=Sampling) for (detail,) in rows]

    def are_sampled(self) -> bool:
        """Whether the records of all sources are complete."""
        (complete,) = self._db.row("are_sampled")
        return bool(complete)

    def sample(
        self,
        sample_size: int,
        seed: int,
        mapping: Mapping[str, str | None],
        *,
        weight: float = 1.0,
        need_instruction: bool,
        bad_rows: BadRows | None = None,
        read_images: ReadImages | None = None,
        selection: Selection = ALL_EQUAL,
        near_duplicates: NearDuplicates | None = None,
    ) -> Sampling:
        """Sample the next source's records from source_rows in one transaction.

        sample_size: <= 0 for all usable rows, or that part of them where the weight is below 1.

        source_rows is a relation of instruction, input, output, reasoning (not null); of system,
        history, tools, tool_calls, outputs, followups, fields (nullable; see the table records); of
        left_out (why the row is no record), problem (why it cannot be read), unused_turns and
        stratum (a text, of its value in the column selection.stratify); with read_images, which
        gives the images of a row, of what that takes: images and image_blobs.
        bad_rows: rows of source_rows that are empty since they cannot be read; those with a problem
        are skipped too, and added. None: a problem raises UserError.
        near_duplicates: says for each question whether it nearly repeats an earlier one, where
        selection.dedup is near. The choice depends on seed and row only, not on the number of
        threads. Raises UserError, naming the row, where an instruction is needed and a record has
        none.
        """
        with self._db.few_threads(), self._db.transaction():
            source, before = len(self.samplings()), self.count()
            self._db.run(
                "find_candidates",
                exact=selection.dedup is not None,
                near=selection.dedup is Dedup.NEAR,
            )
            if selection.dedup is not None:
                self._db.run("find_questions")
                self._db.run("leave_out_equal", reason=REPEATED)
            if selection.dedup is Dedup.NEAR:
                assert near_duplicates is not None, "the caller has a way to find them"
                self._leave_out_near(near_duplicates)
            rows, usable, left_out, rows_unused, unused, bad_row, problem, unreadable = (
                self._db.row("count_source", unreadable=UNREADABLE_IMAGE, most=MAX_NAMED)
            )
            if bad_rows is None and problem is not None:
                raise UserError(
                    f"row {bad_row + 1} cannot be read: {problem}; leave such rows out with "
                    "--skip-bad-rows"
                )
            bad = bad_rows or BadRows()
            left_out = {
                reason: count - (bad.total() if reason == NO_QUESTION else 0)
                for reason, count in left_out.items()
            }
            if problem is not None:
                self._add_problems(bad)
            if not usable:
                counts = (left_out | bad.counts).items()
                reasons = "; ".join(f"{count} {reason}" for reason, count in counts if count)
                raise UserError(f"it has no row with a question to ask: {reasons or 'no rows'}")
            if sample_size <= 0 and weight < 1:
                sample_size = max(1, round(weight * usable))
            self._choose(sample_size, seed, selection, records=before, source=source)
            if read_images is not None:
                self._add_images(source, read_images)
            if need_instruction and (row := self._first_without_instruction(source)) is not None:
                raise UserError(f"the sample in row {row + 1} has no instruction to vary")
            left_out = {reason: count for reason, count in left_out.items() if count}
            sampling = Sampling(
                rows, left_out, rows_unused, unused, dict(mapping), bad, unreadable or []
            )
            append_event(self._db, Event.SAMPLED, sampling)
            self._db.run("drop_candidates")
            self._db.run("drop_questions")
            self._db.run("drop_chosen")
        return sampling

    def _add_images(self, source: int, read_images: ReadImages) -> None:
        """Store the images of a source's records, and the bytes of those without a file."""
        records = dict(self._db.rows("rows_of_source", source=source))
        rows: list[tuple[Any, ...]] = []
        reader = self._db.connection.sql(QUERIES["images_of_source"]).to_arrow_reader(IMAGE_PAGE)
        for batch in reader:
            for row, found, blobs in zip(*batch.columns, strict=True):
                record = records.get(row.as_py())
                if record is not None and found.is_valid:
                    rows += self._images.rows(record, read_images(found.as_py(), blobs.as_py()))
        self._images.add(rows)

    def _choose(
        self, sample_size: int, seed: int, selection: Selection, *, records: int, source: int
    ) -> None:
        """Insert the records of the candidates that are chosen."""
        if sample_size <= 0:
            self._db.run("choose_all")
            self._db.run("insert_chosen", records=records, source=source)
            return
        strata = "equal" if selection.equal_strata else "proportional"
        self._db.run(
            "choose_some",
            seed=seed,
            sample_size=sample_size,
            strata=strata if selection.stratify else "none",
        )
        self._db.run("insert_chosen_sorted", records=records, source=source)

    def _leave_out_near(self, near_duplicates: NearDuplicates) -> None:
        """Leave out the candidates that nearly repeat a record of an earlier source, or another."""
        import pyarrow as pa

        def questions() -> Iterator[list[tuple[str, str]]]:
            for batch in self._db.batches("questions"):
                texts, contexts = (batch.column(name).to_pylist() for name in ("text", "context"))
                yield list(zip(texts, contexts, strict=True))

        repeated = list(near_duplicates(questions))
        rows = [
            row
            for row, is_repeated in zip(self._db.column("question_rows"), repeated, strict=True)
            if is_repeated and row >= 0
        ]
        with self._db.incoming(pa.table({"source_row": pa.array(rows, pa.int64())})):
            self._db.run("leave_out_incoming", reason=NEARLY_REPEATED)

    def _add_problems(self, bad: BadRows) -> None:
        """Count the rows with a problem by its reason, without what it quotes of a row."""
        found = self._db.rows("problems", most=MAX_NAMED)
        for reason, count, _ in found[:MAX_REASONS]:
            bad.counts[reason] = bad.counts.get(reason, 0) + count
        if more := sum(count for _, count, _ in found[MAX_REASONS:]):
            bad.counts["other reasons"] = bad.counts.get("other reasons", 0) + more
        first = sorted(row for _, _, rows in found for row in rows)
        bad.named.extend(f"row {row + 1}" for row in first[: MAX_NAMED - len(bad.named)])

    def count(self) -> int:
        """How many records were sampled."""
        (count,) = self._db.row("count_records")
        return int(count)

    def max_followups(self) -> int:
        """The most questions after the first that a record has."""
        (most,) = self._db.row("max_followups")
        return int(most)

    def followups(self) -> tuple[int, int]:
        """Questions after the first of all records, and the turns that come before these."""
        count, before = self._db.row("count_followups")
        return int(count), int(before)

    def expected_answers(self, max_tokens: int) -> tuple[int, int]:
        """Records with an old output, and completion tokens expected of one answer to each record.

        For answers without requests yet, by the rule that the view expected_lengths has for
        requests before there are results.
        """
        with_old, tokens = self._db.row("expected_of_records", max_tokens=max_tokens)
        return int(with_old), int(tokens)

    def _first_without_instruction(self, source: int) -> int | None:
        """The source row of the first record of a source without an instruction."""
        row = self._db.first("first_without_instruction", source=source)
        return None if row is None else int(row[0])
