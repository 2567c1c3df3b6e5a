"""Datasets of the Hub, downloaded by `datasets`; every failure is a message of one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fastdatasets.sources.arrow import SLICE_ROWS, ArrowRows, rows_of_files
from fastdatasets.sources.columns import some
from store import UserError
from store.folder.private_files import users_files

if TYPE_CHECKING:
    from datasets import DatasetBuilder

LOOKUP_SECONDS = 10  # for the Hub to say whether it has a dataset


def is_hub_name(source: str) -> bool:
    """Whether a dataset of the Hub may be called that: 'name' or 'owner/name'."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def hub_rows(name: str, *, config: str | None, split: str, say: Callable[[str], None]) -> ArrowRows:
    """A split of a dataset of the Hub, which `datasets` downloads into its cache first.

    Raises UserError where there is no such dataset, configuration or split, or no access to it.
    """
    unreachable = _look_up(name)
    import datasets  # a second: only where it is used
    from huggingface_hub.utils import disable_progress_bars

    datasets.disable_progress_bars()
    disable_progress_bars()
    was_offline = datasets.config.HF_HUB_OFFLINE
    # Else each request is sent six times before the cache is read.
    datasets.config.HF_HUB_OFFLINE = was_offline or unreachable is not None
    try:
        with _silence(), users_files():
            builder = _builder(name, config)
            _check_split(builder, name, split)
            builder.download_and_prepare()
            dataset = builder.as_dataset(split)
    except UserError:
        raise
    # It reads what others wrote by way of five libraries, each with errors of its own.
    except Exception as error:
        if unreachable is not None:
            raise UserError(
                f"there is no file or folder {name!r} here, and the Hub at {_address()} cannot be "
                f"reached: {unreachable}"
            ) from None
        raise _load_error(name, error) from None
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline
    if unreachable is not None:
        say(
            f"{name} is taken from the cache: the Hub at {_address()} cannot be reached: "
            f"{unreachable}"
        )
    pa.default_memory_pool().release_unused()  # of what was converted: hundreds of MB
    table = dataset.data.table
    if "[" in split:  # such as train[:10%]: a part of the files
        return ArrowRows(
            table.schema, lambda names: iter(table.select(names).to_batches(SLICE_ROWS))
        )
    return rows_of_files([Path(file["filename"]) for file in dataset.cache_files])


def _look_up(name: str) -> str | None:
    """Look a dataset up on the Hub; returns why the Hub cannot be reached, None where it can.

    Raises UserError where it does not exist, or the user has no access.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        with _silence():
            HfApi().dataset_info(name, timeout=LOOKUP_SECONDS)
    except GatedRepoError:
        raise _gated(name) from None
    except HfHubHTTPError as error:
        answer = error.response
        if isinstance(error, RepositoryNotFoundError) or answer.status_code == 404:
            raise UserError(
                f"there is no file or folder {name!r} here, and no dataset of that name on the Hub "
                f"at {_address()}, or it is private: set HF_TOKEN to a token that may read it"
            ) from None
        if answer.status_code in (401, 403):
            raise UserError(f"the Hub at {_address()} refuses HF_TOKEN: {_reason(error)}") from None
        return f"it answers {answer.status_code} {answer.reason_phrase}"
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    # No route, a certificate, an address without https://, a proxy's page instead of an answer.
    except Exception as error:
        return f"{_reason(error)} (HF_ENDPOINT sets another address, such as a mirror's)"
    return None


def _builder(name: str, config: str | None) -> DatasetBuilder:
    import datasets

    try:
        return datasets.load_dataset_builder(name, config)
    except ValueError:  # also where the configuration is not named, or there is none of that name
        configs = datasets.get_dataset_config_names(name)
        if config is None and len(configs) > 1:
            raise UserError(
                f"dataset {name!r} has several configurations: {some(configs)}. "
                "Name one with --config-name"
            ) from None
        if config is not None and config not in configs:
            raise UserError(
                f"dataset {name!r} has no configuration {config!r}: it has {some(configs)}"
            ) from None
        raise


def _check_split(builder: DatasetBuilder, name: str, split: str) -> None:
    """Raise UserError for a split that is not there, before anything is downloaded."""
    there = [str(one) for one in builder.info.splits or builder.config.data_files or ()]
    for part in split.split("+"):
        asked = part.partition("[")[0].strip()
        if there and asked not in (*there, "all"):
            raise UserError(f"dataset {name!r} has no split {asked!r}: it has {some(there)}")


def _load_error(name: str, error: Exception) -> UserError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError

    # It was found before: what is not there now is what the user has no access to.
    if isinstance(error, DatasetNotFoundError) or any(
        isinstance(one, GatedRepoError) for one in _chain(error)
    ):
        return _gated(name)
    return UserError(f"cannot load dataset {name!r}: {_reason(error.__cause__ or error)}")


def _gated(name: str) -> UserError:
    return UserError(
        f"dataset {name!r} is gated: request access at {_address()}/datasets/{name} and set "
        "HF_TOKEN to a token of that account"
    )


def _address() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    """What an error says, in a line."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


@contextmanager
def _silence() -> Iterator[None]:
    """Silence logs and warnings of the libraries, such as about retries."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
