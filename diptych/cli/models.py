"""diptych models"""

import click

from diptych.cli.options import json_option, print_json, say
from diptych.cli.terminal import tell
from diptych.extras import require


@click.command("models")
@json_option
def command(as_json: bool) -> None:
    """List the architectures that can be trained or read, with their sizes.

    \b
    diptych models --json
    """
    require("counting the parameters of architectures", "torch")
    from diptych.nets.clip import meta_model
    from diptych.nets.presets import PRESETS

    rows = {}
    for name, config in PRESETS.items():
        rows[name] = {
            "parameters": sum(p.numel() for p in meta_model(config).parameters()),
            "image_size_px": config.image.image_size,
            "dimensions": config.embed_dim,
        }
    if as_json:
        print_json(rows)
        return
    say(f"{'architecture':24}{'parameters':>10}  {'picture':>7}  {'vector':>16}")
    for name, row in rows.items():
        size = f"{row['parameters'] / 1e6:9.1f}M  {row['image_size_px']:4} px  {row['dimensions']:5} dimensions"
        tell(f"{name:24}{size}", fold=False)
