"""Putting a folder onto a hub, by the same names that models are fetched by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from allmend.errors import FetchError, NotFound, Refused
from allmend.models.reference import parse


@dataclass(frozen=True)
class Published:
    """Where a folder went: the repository, the commit, and the page."""

    name: str
    commit: str
    url: str


def is_target(text: str) -> bool:
    """Whether `text` names a place on a hub: `hub://HOST/OWNER/NAME`, or OWNER/NAME where HF_ENDPOINT is set.

    A folder that is there wins over a hub's name of the same spelling.
    """
    if text.startswith("hub://"):
        return True
    if not os.environ.get("HF_ENDPOINT") or text.startswith(("./", "../", "/", "~")):
        return False
    owner = text.partition("/")[0]
    if Path(text).exists() or Path(owner).is_dir():
        return False
    try:
        return parse(text).source == "hub"
    except (NotFound, ValueError):
        return False


def publish(folder: Path, target: str, *, message: str) -> Published:
    """Upload a folder; the repository is made where there is none.

    Args:
        target: `hub://HOST/OWNER/NAME[@BRANCH]` or OWNER/NAME[@BRANCH].

    Raises:
        Refused: the hub takes nothing from this key there.
        FetchError: the hub did not answer, or not as a hub does.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    ref = parse(target)
    # The variable is read now: the client reads it when it is imported.
    api = HfApi(endpoint=ref.endpoint or os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN") or None)
    try:
        api.create_repo(ref.name, exist_ok=True)
        if ref.revision is not None:
            api.create_branch(ref.name, branch=ref.revision, exist_ok=True)
        done = api.upload_folder(repo_id=ref.name, folder_path=folder, revision=ref.revision, commit_message=message)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise Refused(f"the hub takes nothing for {ref.name} with this key", where=target,
                          hint="Set HF_TOKEN to a key with hub:write for it.") from None  # fmt: skip
        raise FetchError(f"the hub answered {status}: {str(error).splitlines()[0]}", where=target) from None
    except (OSError, ValueError) as error:
        raise FetchError(f"the hub was not reached: {type(error).__name__}", where=target) from None
    return Published(ref.name, done.oid, str(done.repo_url))
