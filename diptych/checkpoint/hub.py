"""Models by their id on the Hugging Face hub: the needed files are fetched once, then read from the cache."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from diptych.checkpoint.settings import READABLE, SEARCH_FILES
from diptych.checkpoint.weights.files import first_line, read_json
from diptych.errors import CheckpointError, HubError
from diptych.extras import require

# A configuration and its weights. The first pair that a repository has is fetched, so that no weights are fetched
# twice, and pickles only if there is nothing else.
LAYOUTS = (
    ("config.json", r"model\.safetensors"),
    ("config.json", r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"),
    ("open_clip_config.json", r"open_clip_model\.safetensors"),
    ("config.json", r"pytorch_model\.bin"),
    ("config.json", r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"),
    ("open_clip_config.json", r"open_clip_pytorch_model\.bin"),
    ("open_clip_config.json", r"model\.safetensors"),
    ("open_clip_config.json", r"pytorch_model\.bin"),
)
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
BESIDE = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", *SEARCH_FILES)
VOCABULARY = ("vocab.json", "merges.txt")  # instead of tokenizer.json, in older repositories
OTHER_THINGS = {
    "adapter_config.json": "a PEFT adapter, which must be merged into its base model first",
    "model_index.json": "a diffusers pipeline without a whole CLIP",
    "open_clip_config.json": "only open_clip's configuration",
    "config.json": "a configuration with weights in an unsupported form",
}
LISTS = ("modules.json", "model_index.json")  # the folders' contents, by sentence-transformers and diffusers


class HubId(str):
    """The id of a model on the hub, even if the current folder has a file of that name. `revision` is a branch, tag or
    commit, None for the current state."""

    revision: str | None

    def __new__(cls, repo_id: str, revision: str | None = None) -> HubId:
        """The id of a repository, without its revision, and the latter."""
        made = super().__new__(cls, repo_id)
        made.revision = revision
        return made

    @classmethod
    def parse(cls, source: str) -> HubId | None:
        """The id in owner/name or owner/name@revision; None if `source` is neither."""
        found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?", source)
        if not found or not is_repo_id(found[1]) or not _is_below(found[2] or "main"):
            return None
        return cls(found[1], found[2])


def is_repo_id(source: str) -> bool:
    """Whether `source` can be a hub id: owner/name, and not the name of a file."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None and not re.search(
        r"^\.|\.(pt|pth|bin|safetensors|ckpt)$", source
    )


class Download(NamedTuple):
    """What is about to be fetched, as the hub describes it: the files that the cache lacks, in bytes; None for what
    the hub does not say."""

    repo_id: str
    size_bytes: int | None
    license: str | None


Consent: TypeAlias = Callable[[Download], bool]
_consent: ContextVar[Consent | None] = ContextVar("consent", default=None)


@contextmanager
def asking(consent: Consent) -> Iterator[None]:
    """Within it, `consent` is asked before weights are fetched; where it returns False, `fetch` raises HubError."""
    token = _consent.set(consent)
    try:
        yield
    finally:
        _consent.reset(token)


def fetch(repo_id: str, *, revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder in the local cache with the model's files; fetches those that are missing.

    `revision` is a branch, tag or commit. Raises HubError with a remedy.
    """
    from huggingface_hub import constants, errors  # here, because the import takes a third of a second

    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    try:
        return _download(repo_id, revision, cache)
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{repo_id}"
        raise HubError(f"{repo_id} is gated: accept its terms at {page}, then log in with `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no revision {revision!r}; pass one of its branches, tags or commits.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise HubError(
            f"{repo_id} is not a local file or folder, nor a model on the hub that you may read; check the spelling, "
            "or log in with `hf auth login` if it is private."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # the HTTP library differs between versions
        if isinstance(error, OSError) and error.errno in STORAGE:
            raise HubError(f"{repo_id} cannot be written to the cache {cache}: {error}.") from error
        return _cached(repo_id, revision, cache, error)


def _download(repo_id: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    from diptych.checkpoint.progress import bars

    timeout_s = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(repo_id, revision=revision, timeout=timeout_s, files_metadata=True)
    names = [file.rfilename for file in info.siblings or []]
    where: Any = {"revision": revision, "cache_dir": cache}
    if {"config.json", "open_clip_config.json"} <= set(names):  # timm's repositories have a config.json of their own
        path = hf_hub_download(repo_id, "config.json", **where)
        if read_json(Path(path)).get("model_type") not in READABLE:
            names.remove("config.json")
    expected_specs = choose(names)
    if not expected_specs:
        raise HubError(
            f"{repo_id} has no supported model: no config.json or open_clip_config.json with weights"
            f"{next((f', but {what}' for sign, what in OTHER_THINGS.items() if sign in names), '')}."
        )
    _prepare(info, repo_id, expected_specs, cache)
    return Path(snapshot_download(repo_id, tqdm_class=bars(), allow_patterns=expected_specs, **where))


def _prepare(info: Any, repo_id: str, names: list[str], cache: Path) -> None:
    """Before weights are fetched: raise MissingExtraError if they cannot be read here, and ask for consent. Raises
    HubError without it."""
    from huggingface_hub import try_to_load_from_cache

    missing = [
        name
        for name in names
        if not isinstance(try_to_load_from_cache(repo_id, name, cache_dir=cache, revision=info.sha), str)
    ]
    if not any(re.search(r"\.(safetensors|bin)$", name) for name in missing):
        return
    if any(name.endswith(".bin") for name in missing):
        require(f"reading the weights of {repo_id}, which are in PyTorch's own form,", "torch")
    sizes = {file.rfilename: file.size for file in info.siblings}
    known = [sizes[name] for name in missing if sizes[name] is not None]
    download = Download(repo_id, sum(known) if len(known) == len(missing) else None, _license(info))
    if (consent := _consent.get()) and not consent(download):
        raise HubError(f"{repo_id} was not fetched.", remedy="Use the bundled model, which needs no network.")


def _license(info: Any) -> str | None:
    """The name of a repository's license; None if its page names none."""
    card = info.card_data.to_dict() if info.card_data else {}
    name = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return name if isinstance(name, str) else None


def choose(names: list[str]) -> list[str]:
    """The files of a repository that are needed; none if it has no model. Without a model at the top level, it is that
    of the only folder with one, as in repositories of sentence-transformers."""
    names = [name for name in names if _is_below(name)]
    if expected_specs := _on_top(names):
        return expected_specs
    folders = sorted({name.partition("/")[0] for name in names if name.count("/") == 1})
    below = {
        folder: _on_top([name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")])
        for folder in folders
    }
    found = [
        [f"{folder}/{name}" for name in expected_specs] for folder, expected_specs in below.items() if expected_specs
    ]
    return [*found[0], *(name for name in LISTS if name in names)] if len(found) == 1 else []


def _is_below(name: str) -> bool:
    """Whether a file of this name is inside its repository's folder, on any system; a server may list any name."""
    return not re.search(r"[\\:\0]", name) and not {"", ".", ".."} & set(name.split("/"))


def _on_top(names: list[str]) -> list[str]:
    for config, weights in LAYOUTS:
        if config in names and (matches := [name for name in names if re.fullmatch(weights, name)]):
            beside = BESIDE if "tokenizer.json" in names else (*BESIDE, *VOCABULARY)
            return [config, *matches, *(name for name in beside if name in names)]
    return []


def _cached(repo_id: str, revision: str | None, cache: Path, error: Exception) -> Path:
    """The model in the cache. Raises HubError if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    for known in ("config.json", "open_clip_config.json", *LISTS):
        path = try_to_load_from_cache(repo_id, known, revision=revision, cache_dir=cache)
        if isinstance(path, str) and choose(_below(folder := Path(path).parent)):
            return folder
    name = repo_id if revision is None else f"{repo_id} at {revision}"
    raise HubError(
        f"the hub cannot be reached ({first_line(error)}), and {name} is neither a local file or folder nor in the "
        f"cache {cache}.",
        remedy="Connect once to fetch it, or use the bundled model, which needs no network.",
    ) from error


def _below(folder: Path) -> list[str]:
    """The files of a folder and its subfolders, as a repository lists them."""
    return [path.relative_to(folder).as_posix() for pattern in ("*", "*/*") for path in folder.glob(pattern)]
