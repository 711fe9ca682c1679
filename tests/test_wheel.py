"""What is in the wheel that pip builds: the package, what others have a right to be named for, and what it wants."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "diptych" / "bundled"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("diptych-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def bill() -> dict:
    return json.loads((ROOT / "sbom.cdx.json").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, tuple[str, set[str]]]:
    """A lock as name -> version and hashes."""
    blocks = re.split(r"\n(?=\w)", (ROOT / name).read_text(encoding="utf-8"))[1:]
    heads = (re.match(r"([\w.-]+)==(\S+)", block) for block in blocks)
    hashes = (set(re.findall(r"sha256:(\w+)", block)) for block in blocks)
    return {head[1]: (head[2], each) for head, each in zip(heads, hashes, strict=True) if head}


def test_the_wheel_has_the_package_its_licences_and_its_bill(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    assert {path.name for path in wheel.iterdir()} == {"diptych", info.name}
    for name in ("LICENSE", "THIRD-PARTY-NOTICES.md"):
        assert (info / "licenses" / name).read_bytes() == (ROOT / name).read_bytes()
    assert (info / "sboms" / "sbom.cdx.json").read_bytes() == (ROOT / "sbom.cdx.json").read_bytes()
    said = message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    assert said.get_all("License-File") == ["LICENSE", "THIRD-PARTY-NOTICES.md"]
    assert said["License-Expression"] == "Apache-2.0"
    assert (wheel / "diptych" / "bundled" / "model.safetensors").read_bytes() == (
        BUNDLED / "model.safetensors"
    ).read_bytes()


def test_the_notices_name_what_the_wheel_holds_of_others(wheel: Path) -> None:
    """Every place that they name is there, and every file that is no code of ours is named."""
    notices = (ROOT / "THIRD-PARTY-NOTICES.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(diptych/[\w/.]+)`", notices))
    assert {path for path in named if not (wheel / path).exists()} == set()
    data = {path.relative_to(wheel).as_posix() for path in (wheel / "diptych").rglob("*") if path.is_file()}
    ours = {".py", ".typed", ".css", ".jinja", ".html", ".js", ".svg"}
    numbers = {"config.json", "preprocessor_config.json", "reference_pictures.safetensors"}  # of the bundled model
    numbers = {f"diptych/bundled/{name}" for name in numbers} | {"diptych/checkpoint/pretrained/models.toml"}
    numbers |= {f"diptych/collect/captions/{name}" for name in ("boilerplate.toml", "function_words.toml")}
    numbers |= {f"diptych/collect/captions/visible/{name}" for name in ("given_names.txt", "weights.toml")}
    drawn = {path for path in data if path.startswith("diptych/generation/bundled/")}  # learnt from our own drawings
    assert {path for path in data if Path(path).suffix not in ours} - named <= numbers | drawn
    assert "Copyright (c) 2021 OpenAI" in notices
    assert "Copyright 2019\nGoogle LLC" in notices


def test_the_notices_and_the_bill_name_every_release(bill: dict) -> None:
    """What every install wants is required; what extras want is optional, and tools of the tests are not there."""
    base, whole = pins("requirements.lock"), pins("requirements-develop.lock")
    libraries = {one["name"]: one for one in bill["components"] if one["type"] == "library"}
    assert {name for name, one in libraries.items() if one["scope"] == "required"} == base.keys()
    assert {"av", "torch", "scipy"} <= libraries.keys()
    assert not {"pytest", "ruff", "hatchling", "jaxtyping"} & libraries.keys()
    notices = (ROOT / "THIRD-PARTY-NOTICES.md").read_text(encoding="utf-8")
    for name, one in libraries.items():
        assert f"| {name} {one['version']} |" in notices
        if name != "torch":
            assert one["version"] == whole[name][0]
            assert {each["content"] for each in one["externalReferences"][0]["hashes"]} == whole[name][1]
    assert len(re.findall(r"^\| [\w.-]+ \d\S* \|", notices, re.M)) == len(libraries)


def test_the_bill_says_what_needs_what(bill: dict) -> None:
    wants = {one["ref"].partition("@")[0].rpartition("/")[2]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert any(ref.startswith("pkg:pypi/numpy@") for ref in wants["openvino"])
    refs = {one["bom-ref"] for one in bill["components"]}
    assert {ref for some in wants.values() for ref in some} <= refs


def test_the_bill_is_of_this_package_and_its_model(bill: dict) -> None:
    """It has no time and no number of its own, so that it is the same whenever it is made."""
    import diptych

    assert bill["metadata"]["component"]["version"] == diptych.__version__
    files = {
        one["name"]: one["hashes"][0]["content"] for one in bill["components"] if one["name"].startswith("diptych/")
    }
    assert files == {
        f"diptych/bundled/{name}": hashlib.sha256((BUNDLED / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json")
    }
    assert bill["bomFormat"] == "CycloneDX"
    assert not {"serialNumber", "timestamp"} & {*bill, *bill["metadata"]}
