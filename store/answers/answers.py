"""The answers to a run's rows, page by page in sample order, and which of them are for training."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

    from store.database.connection import Database

from store.database.arrow import CHECKED_SCHEMA, VERDICT_SCHEMA, table_of
from store.export_options import ExportOptions, Keep
from store.planning import Verdict
from store.runs import Run, Turns, current_run

PAGE_BYTES = 32 << 20  # of text in a page

SCANS = 3  # how often the pages may read the results before these are sorted into files

FILES_PREFIX = ".answers-"  # of the folder of these files

PAGE = (  # columns of answer_pages, as variables of the views
    *("page", "first_record", "last_record"),
    *("first_result", "last_result", "first_variant", "last_variant"),
)


class Selection(StrEnum):
    """Which answers are read: the name of the statement that selects them."""

    ALL = "select_all"
    UNCHECKED = "select_unchecked"
    UNJUDGED = "select_unjudged"  # without a judge's request, and to be judged


KEEPING = {  # the statement that leaves the other answers out
    Keep.FIRST: "keep_first",
    Keep.BEST: "keep_best",
    Keep.MAJORITY: "keep_majority",
}


class AnswerToCheck(msgspec.Struct, frozen=True, gc=False):
    """An answer and its question; '' where there is none.

    output: as the model wrote it, without the reasoning. row: of its source, from 0. tool_calls:
    JSON. has_context: whether there are earlier turns, or a system prompt of the record's own.
    expected: the dataset's own answer, where a column of it is named; original_output and expected
    are of records only, not of their variants.
    """

    record: int
    ordinal: int
    generation: int
    request_id: str
    instruction: str
    input: str
    original_output: str
    output: str
    reasoning: str
    finish_reason: str
    tool_calls: str | None
    row: int
    has_context: bool
    expected: str | None


class CheckedAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer that was checked; final_answer: the short one that it ends with, if any."""

    record: int
    ordinal: int
    generation: int
    request_id: str
    final_answer: str | None


class Answers:
    """Answers of the final stage, what was found of them, and which are for training."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._checked_at: tuple[int, ...] = ()  # rows in the store when all answers were checked

    def pages(
        self, selection: Selection = Selection.ALL, page_bytes: int = PAGE_BYTES
    ) -> Generator[None]:
        """Set the view answer_rows to one page of the rows after the other.

        In sample order: the selected answers, or the records where generation is skipped.
        Raises DiskFull.
        """
        run = current_run(self._db)
        rows = "answer_rows_by_turn" if run.turns is Turns.ALL else "answer_rows_answered"
        keys = "answer_keys"
        views: tuple[str, ...] = ("page_images", "answered_rows", rows)
        if run.skip_generation:
            keys, views = "answer_keys_of_originals", ("page_images", "answer_rows_of_originals")
        self._set_names(run)
        for statement in (selection, "answer_requests", "final_answers"):
            self._db.run(statement)
        self._db.run(keys, page_bytes=page_bytes)
        with self._results() as results:
            for page in self._db.rows("answer_pages"):
                for name, value in zip(PAGE, page, strict=True):
                    self._db.set_variable(name, int(value))
                self._db.run(results)
                for view in views:
                    self._db.run(view)
                yield

    def _set_names(self, run: Run) -> None:
        """Set the variables of the names that rows have of datasets, model and adapter."""
        shown = run.without_paths()
        changed = {"model": shown.model} | {
            key: value for key, value in shown.params.items() if key == "lora"
        }
        self._db.set_variable("answer_sources", shown.source_names)
        self._db.set_variable("answer_model", shown.model)
        self._db.set_variable(
            "answer_paths", "" if shown == run else msgspec.json.encode(changed).decode()
        )

    def texts(
        self, statement: str, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[int, memoryview]]:
        """The only column of a statement over this page.

        Pairs of a number of texts and their concatenated UTF-8 bytes.
        """
        return self._db.texts(statement, **parameters)

    def table(self, statement: str, parameters: Mapping[str, Any]) -> pa.Table:
        """The rows of a statement over this page."""
        return self._db.table(statement, **parameters)

    def contents(self) -> frozenset[str]:
        """Which of the optional columns any row has."""
        return frozenset(
            name for name, found in self._db.record("answer_contents").items() if found
        )

    def select_test(self, share: float, seed: int) -> None:
        """Set the relation test_records to the records of the test set; share: of the questions."""
        self._db.run("test_records", test_share=share, seed=seed)

    def select_training(self, options: ExportOptions) -> dict[str, int]:
        """Set the relation left_out to the answers that are not for training, and count them.

        By the reason: the check of options.exclude that rejected them, their score, options.keep.
        """
        self._db.run("left_out", exclude=list(options.exclude))
        if options.min_score is not None:
            self._db.run("leave_out_by_score", min_score=options.min_score)
        if options.keep is not Keep.ALL:
            self._db.run(KEEPING[options.keep])
        return dict(self._db.rows("count_left_out"))

    def to_check(self, expected: str | None = None) -> Iterator[list[AnswerToCheck]]:
        """Answers that were not checked yet, in pages.

        expected: the column of the dataset's own answers.
        """
        counts = self._db.row("answer_counts")
        if counts == self._checked_at or not all(counts):
            return
        for _ in self.pages(Selection.UNCHECKED):
            rows = self._db.rows("answers_to_check", expected=expected)
            yield [AnswerToCheck(*row) for row in rows]
        self._checked_at = counts

    def add_checked(self, checked: Sequence[CheckedAnswer], verdicts: Sequence[Verdict]) -> None:
        """Store that answers were checked, and verdicts on them, in one transaction."""
        with self._db.transaction():
            if verdicts:
                with self._db.incoming(table_of(verdicts, VERDICT_SCHEMA)):
                    self._db.run("insert_verdicts")
            with self._db.incoming(table_of(checked, CHECKED_SCHEMA)):
                self._db.run("insert_checked")

    def reject_duplicates(self, check_name: str, least: int) -> None:
        """Reject answers equal to an earlier one to another question, by letters and digits.

        least: letters and digits of an answer.
        """
        with self._db.transaction():
            self._db.run("reject_duplicates", check_name=check_name, least=least)

    def flagged(self) -> dict[str, int]:
        """How many current answers each check rejected."""
        return dict(self._db.rows("count_flagged"))

    def first_reason(self, check_name: str) -> str | None:
        """Why a check rejected the first of its answers."""
        row = self._db.first("first_reason", check_name=check_name)
        return None if row is None else str(row[0])

    @contextmanager
    def _results(self) -> Iterator[str]:
        """The name of the statement that creates the view page_results, the results of a page.

        A page reads all results between its first and its last. Where results were stored in
        another order than that of their rows, that is nearly all of them for each page: then they
        are first written to one file a page, in a temporary folder.
        """
        read, results = self._db.row("result_scans")
        if read <= SCANS * results:
            yield "page_results_in_order"
            return
        folder = self._db.path.parent
        for leftover in folder.glob(f"{FILES_PREFIX}*"):  # of a command that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with TemporaryDirectory(prefix=FILES_PREFIX, dir=folder) as pages:
            self._db.set_variable("results_folder", pages)
            self._db.run("write_page_results", folder=pages)
            yield "page_results_by_page"
