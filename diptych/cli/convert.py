"""diptych convert"""

from typing import Any

import click

from diptych.cli.fetching import asking_before_fetching, yes_option
from diptych.cli.options import activation_option, json_option, outside_option, print_json, print_status
from diptych.cli.terminal import print_result


@click.command("convert")
@click.argument("source")
@click.argument("target")
@click.option(
    "--to",
    "form",
    type=click.Choice(["hf", "open_clip", "openai", "openvino", "onnx"]),
    default="hf",
    show_default=True,
    help="Hugging Face's folder, open_clip's folder, OpenAI's one file, or towers for OpenVINO or ONNX.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="int8 computes in 8 bits (OpenVINO only, with --calibrate).",
)
@click.option(
    "--calibrate", metavar="DATA", help="A folder of pictures or pairs that are typical of the model's input."
)
@click.option(
    "--storage",
    "dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    help="Type of the weights in TARGET; by default that in SOURCE. int8 is smallest, and only diptych reads it.",
)
@outside_option
@activation_option
@yes_option
@json_option
def command(
    source: str, target: str, form: Any, precision: Any, calibrate: str | None, dtype: str | None,
    allow_outside: bool, activation: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Write the model SOURCE (a folder, a checkpoint file, a hub id, a pretrained name or bundled) to TARGET in another
    format.

    \b
    diptych convert ViT-B-32.pt mine --to hf
    diptych convert clip-vit-b-32 small --storage int8
    diptych convert bundled towers --to onnx
    diptych convert vit-b-32 fast --to openvino --precision int8 --calibrate pics
    """
    if form in ("openvino", "onnx"):
        if dtype:
            raise click.UsageError(f"--storage is for formats with weights, not for --to {form}.")
        with asking_before_fetching():
            _export(source, target, form, precision, calibrate, allow_outside, activation, as_json)
        return
    if precision != "float32" or calibrate is not None:
        raise click.UsageError("--precision and --calibrate are for --to openvino; other formats keep the weights.")
    import torch

    from diptych.checkpoint import convert
    from diptych.cli.wording import notice

    with asking_before_fetching():
        written = convert(
            source, target, to=form, activation=activation, dtype=getattr(torch, dtype) if dtype else None,
            notice=lambda words: print_status(notice(words)),
        )  # fmt: skip
    if as_json:
        result = {"source": source, "target": str(written), "format": form}
        print_json(result | ({"storage": dtype} if dtype else {}))
    else:
        print_result(str(written), fold=False)
    print_status(f"converted {source} to {form}")


def _export(
    source: str, target: str, form: Any, precision: Any, calibrate: str | None, allow_outside: bool,
    activation: str | None, as_json: bool,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from diptych.exporting import TOP, export

    written, parity = export(
        source, target, to=form, precision=precision, calibrate=calibrate, activation=activation,
        allow_outside=allow_outside, progress=_stage,
    )  # fmt: skip
    if as_json:
        result = {"source": source, "target": str(written), "format": form, "precision": precision}
        print_json(result | {"parity": asdict(parity)})
    else:
        print_result(str(written), fold=False)
    print_status(f"compared with the model in float32, on {parity.pictures} pictures and {parity.texts} texts:")
    print_status(f"  cosine of pictures {parity.image_cosine:.4f} (worst {parity.image_worst:.4f})")
    print_status(f"  cosine of texts    {parity.text_cosine:.4f} (worst {parity.text_worst:.4f})")
    for each in parity.tried:
        cosines = f"{each.cosine:.4f} (worst {each.worst:.4f}){', chosen' if each.chosen else ''}"
        print_status(f"  the {each.tower} tower in 8 bits, {each.way}: {cosines}")
    if parity.same_top is not None:
        print_status(f"  {parity.same_top:.1%} of each text's {TOP} nearest pictures are the same")


def _stage(stage: str) -> None:
    print_status(f"{stage} ...")
