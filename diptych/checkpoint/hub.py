"""Models by their id on the Hugging Face hub: what is needed is fetched once, and then read without the network."""

import errno
import os
import re
from pathlib import Path
from typing import Any

from diptych.checkpoint.settings import READABLE
from diptych.checkpoint.weights.files import first_line, read_json
from diptych.errors import CheckpointError, HubError

# A configuration, and the weights that go with it; the first pair that a repository has is taken, so that no weights
# come twice and pickles only where nothing else is.
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
BESIDE = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
VOCABULARY = ("vocab.json", "merges.txt")  # in place of tokenizer.json, in older repositories
OTHER_THINGS = {
    "adapter_config.json": "an adapter of PEFT, which has to be merged into its base model first",
    "model_index.json": "a pipeline of diffusers, of which no part is a whole CLIP",
    "open_clip_config.json": "open_clip's configuration alone",
    "config.json": "a configuration with weights in no form that is read here",
}
LISTS = ("modules.json", "model_index.json")  # of what lies in which folder, by sentence-transformers and diffusers


class HubId(str):
    """The id of a model on the hub that is meant as such, whatever lies under that name in the current folder."""

    __slots__ = ()


def is_repo_id(source: str) -> bool:
    """Whether it may be a hub id: owner/name, and not the name of a file."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None and not re.search(
        r"^\.|\.(pt|pth|bin|safetensors|ckpt)$", source
    )


def fetch(repo_id: str, *, revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder in the local cache with the model's files, fetched as far as they are not there.

    `revision` is a branch, tag or commit. Raises HubError in one sentence that says what to do.
    """
    from huggingface_hub import constants, errors  # here, because it takes a third of a second

    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    try:
        return _download(repo_id, revision, cache)
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{repo_id}"
        raise HubError(f"{repo_id} is gated: accept its terms at {page}, then log in with `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no revision {revision!r}; take a branch, tag or commit of it.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise HubError(
            f"{repo_id} is no file or folder here and no model on the hub that you may read; check the spelling, or "
            "log in with `hf auth login` if it is private."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # which HTTP library is underneath differs between versions
        if isinstance(error, OSError) and error.errno in STORAGE:
            raise HubError(f"{repo_id} cannot be kept in the cache {cache}: {error}.") from error
        return _cached(repo_id, revision, cache, error)


def _download(repo_id: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    from diptych.checkpoint.progress import bars

    listed = HfApi().model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT).siblings or []
    names = [file.rfilename for file in listed]
    where: Any = {"revision": revision, "cache_dir": cache}
    if {"config.json", "open_clip_config.json"} <= set(names):  # timm's repositories have a config.json of their own
        path = hf_hub_download(repo_id, "config.json", **where)
        if read_json(Path(path)).get("model_type") not in READABLE:
            names.remove("config.json")
    expected_specs = choose(names)
    if not expected_specs:
        raise HubError(
            f"{repo_id} holds no model that can be read: no config.json or open_clip_config.json with weights"
            f"{next((f', but {what}' for sign, what in OTHER_THINGS.items() if sign in names), '')}."
        )
    return Path(snapshot_download(repo_id, tqdm_class=bars(), allow_patterns=expected_specs, **where))


def choose(names: list[str]) -> list[str]:
    """Which of a repository's files are needed; none where it holds no model. Where no model lies on top, that in the
    only folder below that has one is taken, as sentence-transformers keeps its."""
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
    """Whether a file of this name lies in the folder of its repository, on any system; a server may list any name."""
    return not re.search(r"[\\:\0]", name) and not {"", ".", ".."} & set(name.split("/"))


def _on_top(names: list[str]) -> list[str]:
    for config, weights in LAYOUTS:
        if config in names and (matches := [name for name in names if re.fullmatch(weights, name)]):
            beside = BESIDE if "tokenizer.json" in names else (*BESIDE, *VOCABULARY)
            return [config, *matches, *(name for name in beside if name in names)]
    return []


def _cached(repo_id: str, revision: str | None, cache: Path, error: Exception) -> Path:
    """The model as an earlier call left it, or one sentence on what is missing."""
    from huggingface_hub import try_to_load_from_cache

    for known in ("config.json", "open_clip_config.json", *LISTS):
        path = try_to_load_from_cache(repo_id, known, revision=revision, cache_dir=cache)
        if isinstance(path, str) and choose(_below(folder := Path(path).parent)):
            return folder
    name = repo_id if revision is None else f"{repo_id} at {revision}"
    raise HubError(
        f"the hub cannot be reached ({first_line(error)}), and {name}, which is no file or folder here, is not in "
        f"the cache {cache}.",
        remedy="Connect once to fetch it, or take the bundled model, which needs no network.",
    ) from error


def _below(folder: Path) -> list[str]:
    """The files of a folder and of those right in it, as a repository lists them."""
    return [path.relative_to(folder).as_posix() for pattern in ("*", "*/*") for path in folder.glob(pattern)]
