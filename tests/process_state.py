"""What a test can leave behind in this process for the tests after it."""

import functools
import os
import sys
from typing import Any, NamedTuple

import torch

# What may outlive a test: caches whose content follows from their arguments alone, on every machine, and the list of
# folders that are still in use.
LASTING = {
    "diptych.collect.pictures.colours._transform",
    "diptych.collect.captions.languages._detector",
    "diptych.collect.captions.languages.all_function_words",
    "diptych.collect.captions.languages.function_words",
    "diptych.collect.captions.phrases.boilerplate",
    "diptych.collect.captions.phrases.boilerplate_of",
    "diptych.collect.captions.visible.meaning._weights",
    "diptych.collect.captions.visible.persons._given_names",
    "diptych.collect.captions.visible.words._table",
    "diptych.collect.captions.visible.words.known_word",
    "diptych.data.tables.parquet_pages._chunks_of_groups",
    "diptych.engines.openvino_runtime.core",
    "diptych.checkpoint.formats.name_table._pattern",
    "diptych.data.spooling._held",
    "diptych.media.pixels.tone_mapping._light",
    "diptych.media.pixels.tone_mapping._coded",
    "diptych.media.scanning.path_patterns._held",
    "diptych.text.cleaning._lowercase",
    "diptych.index.catalog.schema._current_schema",
    "diptych.index.folder._joined",
    "diptych.index.search.shots._named_camera_file",
    "diptych.index.stores.postgresql.filters.path_regex._cased",
    "diptych.index.catalog.schema.known_schemas",
    "diptych.scoring.same_picture._averages_of",
    "diptych.scoring.same_picture._windows",
}

Containers = list[tuple[str, Any, Any]]
Cache: Any = type(functools.cache(len))
CACHES: dict[str, list[Any]] = {}  # of each module that has been looked at


class Snapshot(NamedTuple):
    """The variables of the package's modules, by module; what is in those that are containers; and the process's own
    settings."""

    variables: dict[str, dict[str, Any]]
    containers: Containers
    settings: dict[str, object]


def snapshot() -> Snapshot:
    """As it is now. It is taken before and after every test: a fraction of a millisecond."""
    modules = {name: vars(sys.modules[name]).copy() for name in list(sys.modules) if name.startswith("diptych")}
    containers = [
        (f"{module}.{name}", value, value.copy())
        for module, values in modules.items()
        for name, value in values.items()
        if type(value) in (dict, list, set) and name[:2] != "__" and f"{module}.{name}" not in LASTING
    ]
    return Snapshot(modules, containers, settings())


def settings() -> dict[str, object]:
    """Of the process, by name."""
    return {
        "the working directory": os.getcwd(),
        "torch's dtype": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "torch's float32 products": torch.get_float32_matmul_precision(),
        **{f"${name}": value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
    }


def differences(before: Snapshot) -> list[str]:
    """The names of what is no longer as it was, and of caches of choices that hold something. What libraries add to the
    environment when they are first used is no test's doing."""
    now = settings()
    ours = {name for name in now if name.startswith("$DIPTYCH_")}
    left = [name for name in before.settings.keys() | ours if before.settings.get(name) != now.get(name)]
    left += [name for name, value, copy in before.containers if not same(value, copy)]
    for module, values in before.variables.items():
        present = vars(sys.modules[module])
        left += [f"{module}.{name}" for name in values if present.get(name) is not values[name] and name[:2] != "__"]
    return sorted({*left, *full_caches()})


def same(value: Any, copy: Any) -> bool:
    """Whether a container holds what it held; what cannot be compared is another."""
    try:
        return value == copy
    except (ValueError, RuntimeError):
        return False


def full_caches() -> list[str]:
    """The functions of the package that remember answers, but for those that may."""
    for name in [name for name in list(sys.modules) if name.startswith("diptych") and name not in CACHES]:
        CACHES[name] = [
            value
            for value in vars(sys.modules[name]).values()
            if isinstance(value, Cache) and value.__module__ == name and f"{name}.{value.__qualname__}" not in LASTING
        ]
    return [f"{name}.{cache.__qualname__}" for name in CACHES for cache in CACHES[name] if cache.cache_info().currsize]
