#!/usr/bin/env bash
# diffusers 0.42.1 (torch 2.13.0, CPU; numpy as pip brings it).
#
# With timestep_spacing="trailing", which its documentation takes over from a paper that counts back from the last level
# in equal parts, DDIMScheduler gives one timestep more than was asked for wherever the count does not divide the 1,000
# levels and rounding adds up unluckily: the levels come from np.arange(1000, 0, -1000 / count) with a float step. The
# additional one is level -1, before the first, which a network is called with like any other. One would expect as many
# timesteps as set_timesteps was told, all from 0 up, as "leading" and "linspace" give.
#
# Seen (count asked, count given, last level):
#   60 60 16
#   61 62 -1
#   62 62 15
#   103 104 -1
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 numpy
cd "$work"
"$work/venv/bin/python" - <<'PY' | tee said.txt
from diffusers import DDIMScheduler

scheduler = DDIMScheduler(timestep_spacing="trailing")
for count in (60, 61, 62, 103):
    scheduler.set_timesteps(count)
    print(count, len(scheduler.timesteps), int(scheduler.timesteps[-1]))
PY
diff said.txt - <<'SEEN'
60 60 16
61 62 -1
62 62 15
103 104 -1
SEEN
