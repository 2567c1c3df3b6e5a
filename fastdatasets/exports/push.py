"""Uploading a run's exported files to the Hub."""

from __future__ import annotations

from fastdatasets.exports.files import BY_NAME, DESCRIPTIONS
from store import RunFolder, Unfinished, UserError, WorkStore
from store.folder.run_folder import IMAGES_NAME


def push_files(folder: RunFolder, repository: str, *, private: bool) -> str:
    """Upload the exported files as a dataset, and return its address.

    Content that the Hub has is not sent again, so a push that was stopped continues. Raises
    Unfinished where the files are out of date or there are none, UserError where the Hub refuses.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    with WorkStore.open(folder.store_path, read_only=True, wait_seconds=5) as store:
        stale, files = store.exports.stale_files(), store.exports.files()
    if stale or not BY_NAME.keys() & files:
        raise Unfinished(
            f"run {folder.name} has no files that are up to date: fastdatasets export {folder.path}"
        )
    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder.path,
            allow_patterns=[*files, *DESCRIPTIONS, f"{IMAGES_NAME}/*"],
            commit_message=f"Upload run {folder.name}",
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, HTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot push to {repository}: {reason}. HF_TOKEN needs the right to write there; the "
            "same command continues what was begun"
        ) from None
    return f"{api.endpoint}/datasets/{repository}"
