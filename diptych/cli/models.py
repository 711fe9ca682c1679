"""diptych models"""

import click

from diptych.cli.options import json_option, print_json, print_status
from diptych.cli.terminal import print_result


@click.command("models")
@click.option("--pretrained", is_flag=True, help="List trained models that --model fetches by a short name.")
@json_option
def command(pretrained: bool, as_json: bool) -> None:
    """List the architectures that can be trained or read, with their sizes, or the pretrained models.

    \b
    diptych models --json
    diptych models --pretrained
    """
    if pretrained:
        _list_pretrained(as_json)
        return
    from diptych.training.architectures import architectures

    rows = {name: architecture._asdict() for name, architecture in architectures().items()}
    if as_json:
        print_json(rows)
        return
    print_status(f"{'architecture':24}{'parameters':>10}  {'picture':>7}  {'vector':>16}")
    for name, row in rows.items():
        size = f"{row['parameters'] / 1e6:9.1f}M  {row['image_size_px']:4} px  {row['dimensions']:5} dimensions"
        print_result(f"{name:24}{size}", fold=False)


def _list_pretrained(as_json: bool) -> None:
    """Print the table, its sources and a command that uses a row."""
    from diptych.checkpoint.pretrained.names import pretrained_models

    models = pretrained_models()
    if as_json:
        print_json({name: model._asdict() for name, model in models.items()})
        return
    sources = list(dict.fromkeys(model.source for model in models.values()))
    print_status(
        f"{'name':27}{'fetches':>8} {'vector':>7} {'picture':>8} {'ImageNet':>9}      {'license':14}on the hub"
    )
    for name, model in models.items():
        top1 = "-" if model.imagenet_top1 is None else f"{model.imagenet_top1:.1f} %"
        note = "" if model.imagenet_top1 is None else f"[{sources.index(model.source) + 1}]"
        sizes = f"{_gigabytes(model.download_mb):>8} {model.dimensions:7} {model.image_size_px:5} px {top1:>9}"
        print_result(f"{name:27}{sizes} {note:4} {model.license:14}{model.hub_id}", fold=False)
    print_status("ImageNet: published zero-shot top-1 accuracy, from")
    for number, source in enumerate(sources, start=1):
        print_status(f"  [{number}] {source}")
    print_status('diptych search "a black cat" ~/Pictures --model clip-vit-b-32')


def _gigabytes(megabytes: int) -> str:
    return f"{megabytes / 1000:.2f} GB"
