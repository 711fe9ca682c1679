"""Writes the locks: of each release that Diptych wants, in the version of constraints.txt, the hashes of all files, so
that pip takes no other on any system. requirements.lock is what `pip install .` wants; requirements-develop.lock is
that, what all extras want, and what tests and checks are run with. PyTorch is in neither: constraints.txt alone says
which, for its builds for one processor and another lie in different places.

    python dependencies/lock.py            # as `make lock`
    python dependencies/lock.py --check    # as CI: says what has changed, and writes nothing
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
LOCKS = {ROOT / "requirements.lock": [], ROOT / "requirements-develop.lock": ["--all-extras"]}
LEFT_OUT = "torch"
# What PyTorch wants whatever it is built for; of its packages of CUDA each build brings its own.
TORCH_WANTS = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
SYSTEMS = ("darwin", "linux", "win32")
ANY = " or ".join(f"sys_platform == '{system}'" for system in SYSTEMS)  # as uv says that all of them are meant
PYTHON = "3.11"  # and newer
HEADER = """\
# Made by `make lock`; no line is written by hand. pip takes the very files that are named here, and no others:
#   pip install --require-hashes -r {name}
#   pip install --no-deps .
# PyTorch is not among them, see constraints.txt.
"""


class Pin(NamedTuple):
    """A release: for which systems (an environment marker, "" for all), its files' hashes, and what wants it."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]
    wanted_by: tuple[str, ...]

    def __str__(self) -> str:
        marker = f" ; {self.marker}" if self.marker else ""
        hashes = "".join(f" \\\n    --hash={one}" for one in sorted(self.hashes))
        return f"{self.name}=={self.version}{marker}{hashes}\n    # via {', '.join(self.wanted_by)}\n"

    @property
    def line(self) -> str:
        """Without its hashes."""
        return str(self._replace(hashes=frozenset())).partition("\n")[0]


def normalised(name: str) -> str:
    """A name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    """constraints.txt as name -> version."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {normalised(name): version.strip() for name, version in pairs}


def read(text: str) -> list[Pin]:
    """The pins of a lock, ours or uv's."""
    found = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)[1:]:
        head = block.partition("\n")[0].rstrip("\\ ")
        release, _, marker = head.partition(" ; ")
        name, _, version = release.partition("==")
        marker = "" if marker == ANY else marker.replace(f" and ({ANY})", "")
        wanted_by = re.findall(r"([\w.-]+)", block.rpartition("# via")[2].replace("(pyproject.toml)", ""))
        hashes = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
        found.append(Pin(name, version, marker, hashes, tuple(wanted_by)))
    return found


def resolved(extras: Sequence[str]) -> list[Pin]:
    """What uv finds under constraints.txt. Raises CalledProcessError, after it said why."""
    version = constraints()[LEFT_OUT]
    settings = f"\n[tool.uv]\nenvironments = {ANY.split(' or ')}\n[[tool.uv.dependency-metadata]]\n"
    settings += f"name = '{LEFT_OUT}'\nversion = '{version}'\nrequires-dist = {list(TORCH_WANTS)}\n"
    with tempfile.TemporaryDirectory() as folder:
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (Path(folder) / "pyproject.toml").write_text(project + settings, encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extras, "--quiet", "--universal"]
        command += ["--python-version", PYTHON, "--generate-hashes", "--constraint", str(CONSTRAINTS)]
        command += ["--no-header", "--no-emit-package", LEFT_OUT]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    text = re.sub(r"#\s+-c \S*constraints\.txt", "#", done.stdout)
    return read(text.partition("\n# The following packages were excluded")[0])


def differences(old: Iterable[Pin], new: Iterable[Pin]) -> list[str]:
    """What a lock says otherwise than it would today. Files that a release has had since are no difference."""
    before, after = {pin.name: pin for pin in old}, {pin.name: pin for pin in new}
    said = [f"{name} is missing" for name in after.keys() - before.keys()]
    said += [f"{name} is no more wanted" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        one, other = before[name], after[name]
        if one._replace(hashes=frozenset()) != other._replace(hashes=frozenset()):
            said.append(
                f"{one.line} for {', '.join(one.wanted_by)} is now {other.line} for {', '.join(other.wanted_by)}"
            )
        elif one.hashes - other.hashes:
            said.append(f"{name} {one.version}: files with {len(one.hashes - other.hashes)} of the hashes are gone")
    return sorted(said)


def main() -> int:
    """Write the locks, or with --check compare them."""
    check, stale = "--check" in sys.argv[1:], False
    for path, extras in LOCKS.items():
        pins = resolved(extras)
        said = differences(read(path.read_text(encoding="utf-8")), pins) if path.exists() else [f"no {path.name} yet"]
        stale = stale or (check and bool(said))
        if not check:
            path.write_text(HEADER.format(name=path.name) + "\n" + "".join(map(str, pins)), encoding="utf-8")
        print(f"{path.name}: {len(pins)} releases" + "".join(f"\n  {one}" for one in said))
    if stale:
        print("`make lock` makes them anew.")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
